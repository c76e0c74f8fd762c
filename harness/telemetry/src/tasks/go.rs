//! Go's two texts: full stacks, and the aggregated profile.

use super::{Builder, Creator, Frame, Minutes, Task, TaskDump, file_and_line, is_blank, lines};
use crate::ParseError;
use crate::source::Cursor;

pub(super) fn is_stack_header(line: &str) -> bool {
    line.strip_prefix("goroutine ")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains('['))
}

pub(super) fn is_profile_header(line: &str) -> bool {
    line.split_once(" @ ").is_some_and(|(count, rest)| {
        !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit()) && rest.starts_with("0x")
    })
}

/// What the next line of a stack may be.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    /// Between goroutines; what is here may be a preamble or registers.
    Header,
    /// Within a goroutine.
    Function,
    /// After a function: its place.
    Place,
    /// After `created by`: its place.
    CreatorPlace,
}

pub(super) fn stacks(text: &str) -> Result<TaskDump, ParseError> {
    let mut builder = Builder::default();
    let mut next = Next::Header;
    for cursor in lines(text) {
        let cursor = cursor?;
        let content = cursor.rest();
        if is_blank(&cursor) {
            next = Next::Header;
        } else if is_stack_header(content) {
            // The source of a shortened dump may lack the blank line before it.
            *builder.task(&cursor)? = stack_header(cursor)?;
            next = Next::Function;
        } else if builder.omission(&cursor) {
            next = Next::Header;
        } else if next == Next::Header {
            if !builder.dump.tasks.is_empty() && !is_epilogue(content) {
                return Err(cursor.error("a goroutine such as `goroutine 18 [select]:`"));
            }
        } else {
            next = stack_line(&mut builder, cursor, next)?;
        }
    }
    Ok(builder.dump)
}

fn stack_line(
    builder: &mut Builder,
    mut cursor: Cursor<'_>,
    next: Next,
) -> Result<Next, ParseError> {
    let indented = cursor.peek().is_some_and(|c| c == ' ' || c == '\t');
    if indented && matches!(next, Next::Place | Next::CreatorPlace) {
        let (file, line) = place(cursor)?;
        let frame = builder.dump.tasks.last_mut().and_then(|task| {
            if next == Next::Place {
                task.frames.last_mut()
            } else {
                task.created_by.as_mut().map(|creator| &mut creator.frame)
            }
        });
        if let Some(frame) = frame {
            (frame.file, frame.line) = (Some(file), Some(line));
        }
        return Ok(Next::Function);
    }
    if indented {
        return Err(cursor.error("a function, not indented"));
    }
    let content = cursor.rest();
    if content.starts_with("...") && content.ends_with("elided...") {
        return Ok(Next::Function);
    }
    if cursor.eat("created by ") {
        let rest = cursor.rest();
        let (function, task) = match rest.rsplit_once(" in goroutine ") {
            Some((function, id)) => {
                let Ok(id) = id.trim_end().parse() else {
                    cursor.eat(function);
                    cursor.eat(" in goroutine ");
                    return Err(cursor.error("the number of a goroutine"));
                };
                (function, Some(id))
            }
            None => (rest, None),
        };
        if function.trim().is_empty() {
            return Err(cursor.error("the function that started the goroutine"));
        }
        if let Some(open) = builder.dump.tasks.last_mut() {
            let frame = Frame {
                function: function.trim_end().to_owned(),
                ..Frame::default()
            };
            open.created_by = Some(Creator { frame, task });
        }
        return Ok(Next::CreatorPlace);
    }
    let depth = builder
        .dump
        .tasks
        .last()
        .map_or(0, |task| task.frames.len());
    builder.count_frame(&cursor, depth)?;
    // Methods have parentheses in their names, arguments have none within.
    let trimmed = content.trim_end();
    let call = trimmed
        .strip_suffix(')')
        .and_then(|call| call.rsplit_once('('))
        .filter(|(function, _)| !function.is_empty());
    let Some((function, arguments)) = call else {
        return Err(cursor.error("a function with its arguments, as `main.run(0xc000120000)`"));
    };
    if let Some(open) = builder.dump.tasks.last_mut() {
        open.frames.push(Frame {
            function: function.to_owned(),
            arguments: Some(arguments.to_owned()),
            ..Frame::default()
        });
    }
    Ok(Next::Place)
}

/// `goroutine 18 [semacquire, 312 minutes, locked to thread]:`
fn stack_header(mut cursor: Cursor<'_>) -> Result<Task, ParseError> {
    let mut task = Task {
        line: cursor.line(),
        count: 1,
        ..Task::default()
    };
    cursor.eat("goroutine ");
    let at_id = cursor;
    let id = cursor.take_while(|c| c.is_ascii_digit());
    task.id = Some(
        id.parse()
            .map_err(|_| at_id.error("the number of a goroutine"))?,
    );
    // With GOTRACEBACK=system, Go prints addresses between the number and the state.
    cursor.take_while(|c| c != '[');
    cursor.eat("[");
    let at_state = cursor;
    let states = cursor.take_while(|c| c != ']');
    if !cursor.eat("]") {
        return Err(cursor.error("`]` after the state of the goroutine"));
    }
    if !cursor.rest().trim_end().ends_with(':') {
        cursor.take_while(|_| true);
        return Err(cursor.error("`:` at the end of the goroutine's header"));
    }
    for (nth, part) in states.split(", ").enumerate() {
        match part.strip_suffix(" minutes") {
            _ if nth == 0 && part.is_empty() => return Err(at_state.error("a state")),
            _ if nth == 0 => task.state = Some(part.to_owned()),
            Some(minutes) => {
                let minutes = minutes.parse().map_err(|_| {
                    let mut at = at_state;
                    at.eat(&states[..states.find(part).unwrap_or_default()]);
                    at.error("a whole number of minutes")
                })?;
                task.waited = Some(Minutes(minutes));
            }
            None if part == "locked to thread" => task.locked_to_thread = true,
            None => {}
        }
    }
    Ok(task)
}

/// `\t/app/cache.go:67 +0x1f fp=… sp=… pc=…`
fn place(mut cursor: Cursor<'_>) -> Result<(String, u32), ParseError> {
    cursor.take_while(|c| c == ' ' || c == '\t');
    let rest = cursor.rest();
    let end = [" +0x", " fp=0x"]
        .iter()
        .filter_map(|mark| rest.find(mark))
        .min()
        .unwrap_or(rest.len());
    match file_and_line(rest[..end].trim_end()) {
        Some((file, line)) => Ok((file.to_owned(), line)),
        None => Err(cursor.error("a file and a line, as `/app/cache.go:67`")),
    }
}

/// What Go prints after the last goroutine of a crash.
fn is_epilogue(line: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    let register = words
        .next()
        .is_some_and(|word| word.len() <= 8 && word.bytes().all(|b| b.is_ascii_alphanumeric()))
        && words.next().is_some_and(|word| word.starts_with("0x"))
        && words.next().is_none();
    register || line.starts_with("exit status ") || line.starts_with("-----")
}

/// `849 @ 0x43d2c5 0x44e8a5`, and below each address `#\t0x43d2c4\tsync.(*Mutex).Lock+0x64\tfile:line`.
pub(super) fn profile(text: &str) -> Result<TaskDump, ParseError> {
    let mut builder = Builder::default();
    let mut open = false;
    for cursor in lines(text) {
        let mut cursor = cursor?;
        let content = cursor.rest();
        if is_blank(&cursor) {
            open = false;
        } else if is_profile_header(content) {
            let digits = cursor.take_while(|c| c.is_ascii_digit());
            let start = Cursor::new(content, cursor.line());
            let count = digits
                .parse()
                .map_err(|_| start.error("a number of goroutines"))?;
            cursor.eat(" @ ");
            for address in content[digits.len() + 3..].split_ascii_whitespace() {
                if !is_address(address) {
                    return Err(cursor.error("addresses such as 0x43d2c5"));
                }
            }
            builder.task(&start)?.count = count;
            open = true;
        } else if content.starts_with('#') && open {
            profile_line(&mut builder, cursor)?;
        } else if !content.starts_with("goroutine profile:") && !builder.omission(&cursor) {
            return Err(cursor.error("a count and addresses, as `849 @ 0x43d2c5 0x44e8a5`"));
        }
    }
    Ok(builder.dump)
}

fn is_address(text: &str) -> bool {
    text.strip_prefix("0x")
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn profile_line(builder: &mut Builder, mut cursor: Cursor<'_>) -> Result<(), ParseError> {
    cursor.eat("#");
    cursor.take_while(|c| c == ' ' || c == '\t');
    if cursor.rest().starts_with("labels:") {
        return Ok(());
    }
    let mut fields = cursor
        .rest()
        .split('\t')
        .map(str::trim)
        .filter(|field| !field.is_empty());
    let expected = "an address, a function and its place, separated by tabs";
    if !fields.next().is_some_and(is_address) {
        return Err(cursor.error(expected));
    }
    let (Some(symbol), place) = (fields.next(), fields.next()) else {
        return Err(cursor.error(expected));
    };
    let function = match symbol.rsplit_once("+0x") {
        Some((function, offset)) if offset.bytes().all(|b| b.is_ascii_hexdigit()) => function,
        _ => symbol,
    };
    let place = match place.map(file_and_line) {
        None => None,
        Some(Some(place)) => Some(place),
        Some(None) => {
            let before = cursor.rest().find(place.unwrap_or_default());
            let skipped = &cursor.rest()[..before.unwrap_or_default()];
            cursor.eat(skipped);
            return Err(cursor.error("a file and a line, as `/app/cache.go:67`"));
        }
    };
    let depth = builder
        .dump
        .tasks
        .last()
        .map_or(0, |task| task.frames.len());
    builder.count_frame(&cursor, depth)?;
    if let Some(task) = builder.dump.tasks.last_mut() {
        task.frames.push(Frame {
            function: function.to_owned(),
            arguments: None,
            file: place.map(|(file, _)| file.to_owned()),
            line: place.map(|(_, line)| line),
        });
    }
    Ok(())
}
