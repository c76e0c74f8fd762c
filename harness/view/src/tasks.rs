//! Dumps of tasks: goroutines, Tokio tasks and threads, grouped by what they do and where.
//!
//! Who holds a lock and who waits for whom is not told: that is for the reader.

use std::collections::HashMap;

use maud::{Markup, html};
use telemetry::ParseError;
use telemetry::tasks::{Frame, Minutes, Task, TaskDump};

use crate::page::{self, Section};
use crate::units::{self, counted};

/// The most groups of one grouping, and the most stacks within a group.
const MOST_GROUPS: usize = 200;
const MOST_STACKS: usize = 40;
/// The most stacks of one grouping, and frames of one stack.
const MOST_STACKS_IN_ALL: usize = 600;
const MOST_FRAMES: usize = 80;
/// The most tasks that a stack lists.
const MOST_TASKS: usize = 40;

/// Draws a dump of tasks.
///
/// # Errors
/// Where the dump is not in its format.
pub fn section(bytes: &[u8]) -> Result<Section, ParseError> {
    let dump = TaskDump::from_slice(bytes)?;
    let all: u64 = dump.tasks.iter().map(|task| task.count).sum();
    let mut facts = vec![counted(clamp(all), "task")];
    if let Some(longest) = longest(dump.tasks.iter()) {
        facts.push(format!("longest wait {longest}"));
    }
    let omitted: u64 = dump.omitted.iter().filter_map(|line| line.count).sum();
    if omitted > 0 {
        facts.push(format!(
            "{} more left out of the dump",
            units::count(clamp(omitted))
        ));
    }
    let body = html! {
        @if !dump.omitted.is_empty() {
            p.note { "Whoever shortened the dump left out:" }
            ul.note {
                @for line in &dump.omitted { li { span.name { (line.text) } " (line " (line.line) ")" } }
            }
        }
        div.groupings {
            fieldset.choice {
                legend { "Group by" }
                @for (nth, grouping) in Grouping::ALL.iter().enumerate() {
                    label { input type="radio" value=(nth) checked[nth == 0]; (grouping.title()) }
                }
            }
            (page::filter("Filter groups by state or function", "groups"))
            @for (nth, grouping) in Grouping::ALL.iter().enumerate() {
                section.grouping data-nth=(nth) aria-label={ "By " (grouping.title()) } {
                    h3 { "By " (grouping.title()) }
                    (groups(&dump, *grouping, all))
                }
            }
        }
    };
    Ok(Section {
        what: "Tasks",
        facts,
        body,
    })
}

fn clamp(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn longest<'a>(tasks: impl Iterator<Item = &'a Task>) -> Option<Minutes> {
    tasks.filter_map(|task| task.waited).max()
}

/// What the tasks of a group have in common.
#[derive(Debug, Clone, Copy)]
enum Grouping {
    State,
    TopFrame,
    Argument,
    Creator,
}

impl Grouping {
    const ALL: [Self; 4] = [Self::State, Self::TopFrame, Self::Argument, Self::Creator];

    fn title(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::TopFrame => "innermost function",
            Self::Argument => "innermost address (of a lock, a channel)",
            Self::Creator => "where it was started",
        }
    }

    fn key(self, task: &Task) -> String {
        match self {
            Self::State => task
                .state
                .clone()
                .unwrap_or_else(|| "(the dump tells no state)".to_owned()),
            Self::TopFrame => match innermost(task) {
                Some(frame) => function(frame).to_owned(),
                None => "(no frames)".to_owned(),
            },
            Self::Argument => frames(task)
                .find_map(address)
                .unwrap_or_else(|| "(the dump tells no address)".to_owned()),
            Self::Creator => match &task.created_by {
                Some(creator) => {
                    let frame = &creator.frame;
                    match place(frame) {
                        Some(place) => format!("{} at {place}", function(frame)),
                        None => function(frame).to_owned(),
                    }
                }
                None => "(the dump does not tell)".to_owned(),
            },
        }
    }
}

fn frames(task: &Task) -> impl Iterator<Item = &Frame> {
    task.frames.iter().chain(task.branches.iter().flatten())
}

fn innermost(task: &Task) -> Option<&Frame> {
    frames(task).next()
}

fn function(frame: &Frame) -> &str {
    match frame.function.as_str() {
        "" => "(no symbol)",
        name => name,
    }
}

fn place(frame: &Frame) -> Option<String> {
    let file = frame.file.as_deref()?;
    Some(match frame.line {
        Some(line) => format!("{file}:{line}"),
        None => file.to_owned(),
    })
}

/// The function and its first argument that looks like an address.
fn address(frame: &Frame) -> Option<String> {
    let arguments = frame.arguments.as_deref()?;
    let found = arguments
        .split([',', ' ', '='])
        .map(|word| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()))
        // Shorter ones are flags and counts.
        .find(|word| word.starts_with("0x") && word.len() >= 8)?;
    Some(format!("{found} in {}", function(frame)))
}

struct Group<'a> {
    key: String,
    count: u64,
    tasks: Vec<&'a Task>,
}

/// The groups, the largest first; of equals the first in the dump.
fn grouped<'a, K: std::hash::Hash + Eq + Clone>(
    tasks: impl Iterator<Item = &'a Task>,
    key: impl Fn(&'a Task) -> K,
) -> Vec<(K, u64, Vec<&'a Task>)> {
    let mut groups: Vec<(K, u64, Vec<&'a Task>)> = Vec::new();
    let mut places: HashMap<K, usize> = HashMap::new();
    for task in tasks {
        let key = key(task);
        let place = *places.entry(key.clone()).or_insert_with(|| {
            groups.push((key, 0, Vec::new()));
            groups.len() - 1
        });
        groups[place].1 = groups[place].1.saturating_add(task.count);
        groups[place].2.push(task);
    }
    groups.sort_by_key(|(_, count, _)| std::cmp::Reverse(*count));
    groups
}

fn groups(dump: &TaskDump, grouping: Grouping, all: u64) -> Markup {
    let groups: Vec<Group<'_>> = grouped(dump.tasks.iter(), |task| grouping.key(task))
        .into_iter()
        .map(|(key, count, tasks)| Group { key, count, tasks })
        .collect();
    let mut stacks_left = MOST_STACKS_IN_ALL;
    html! {
        div.groups {
            @for (nth, group) in groups.iter().enumerate().take(MOST_GROUPS) {
                (one_group(group, grouping, all, nth < 3 && groups.len() <= 12, &mut stacks_left))
            }
        }
        @if groups.len() > MOST_GROUPS {
            p.note { (units::count(groups.len() - MOST_GROUPS)) " more groups are in the dump." }
        }
    }
}

fn one_group(
    group: &Group<'_>,
    grouping: Grouping,
    all: u64,
    open: bool,
    stacks_left: &mut usize,
) -> Markup {
    let share = 100.0 * group.count as f64 / all.max(1) as f64;
    let stacks = grouped(group.tasks.iter().copied(), Standing::of);
    let shown = stacks.len().min(MOST_STACKS).min(*stacks_left);
    *stacks_left -= shown;
    let words = words(group);
    html! {
        details.group open[open] data-words=(words) {
            summary {
                span.share style={ "--share:" (format!("{share:.1}")) "%" } {}
                strong.number { (units::count(clamp(group.count))) } " "
                span.name { (group.key) }
                @if let Some(longest) = longest(group.tasks.iter().copied()) {
                    " " small { "longest wait " (longest) }
                }
            }
            @for (_, count, tasks) in &stacks[..shown] { (stack(grouping, *count, tasks)) }
            @if shown < stacks.len() {
                p.note { (counted(stacks.len() - shown, "other stack")) " in the dump." }
            }
        }
    }
}

/// What the filter looks at.
fn words(group: &Group<'_>) -> String {
    const MOST: usize = 4_000;
    let mut words = group.key.clone();
    for frame in group.tasks.iter().flat_map(|task| frames(task)) {
        if words.len() > MOST {
            break;
        }
        if !words.contains(&frame.function) {
            words.push(' ');
            words.push_str(&frame.function);
        }
    }
    words.to_lowercase()
}

/// A function, its file and the line within it.
type Spot<'a> = (&'a str, Option<&'a str>, Option<u32>);

/// Where a task stands: its state and its stack, whatever the arguments.
#[derive(PartialEq, Eq, Hash, Clone)]
struct Standing<'a> {
    state: Option<&'a str>,
    stacks: Vec<Vec<Spot<'a>>>,
}

impl<'a> Standing<'a> {
    fn of(task: &'a Task) -> Self {
        let stacks = std::iter::once(&task.frames).chain(&task.branches);
        let places = |frames: &'a Vec<Frame>| {
            frames
                .iter()
                .map(|frame| (frame.function.as_str(), frame.file.as_deref(), frame.line))
                .collect()
        };
        Self {
            state: task.state.as_deref(),
            stacks: stacks.map(places).collect(),
        }
    }
}

/// Tasks that stand at the same place.
fn stack(grouping: Grouping, count: u64, tasks: &[&Task]) -> Markup {
    let first = tasks[0];
    let frames: Vec<&[Frame]> = tasks.iter().map(|task| task.frames.as_slice()).collect();
    html! {
        details.stack {
            summary {
                strong.number { (units::count(clamp(count))) } " "
                span.name { (top(first)) }
                @if let (Some(state), false) = (&first.state, matches!(grouping, Grouping::State)) {
                    " " small.name { "[" (state) "]" }
                }
                @if let Some(longest) = longest(tasks.iter().copied()) { " " small { "longest wait " (longest) } }
            }
            (frame_list(&frames))
            @for nth in 0..first.branches.len() {
                @let branches: Vec<&[Frame]> = tasks.iter().map(|task| task.branches[nth].as_slice()).collect();
                p.note { "awaits at once, " (nth + 1) " of " (first.branches.len()) ":" }
                (frame_list(&branches))
            }
            (who(tasks))
        }
    }
}

/// The innermost functions of a task, by which a reader tells its stack from others.
fn top(task: &Task) -> String {
    const SHOWN: usize = 3;
    let names: Vec<&str> = frames(task).take(SHOWN).map(function).collect();
    match names.is_empty() {
        true => "(no frames)".to_owned(),
        false => names.join(" ← "),
    }
}

/// Stacks that are alike but for their arguments, of which only those are told that they share.
fn frame_list(stacks: &[&[Frame]]) -> Markup {
    let first = stacks[0];
    let shared = |nth: usize| {
        stacks
            .iter()
            .all(|stack| stack[nth].arguments == first[nth].arguments)
    };
    html! {
        ol.frames-list {
            @for (nth, frame) in first.iter().enumerate().take(MOST_FRAMES) {
                li {
                    span.name {
                        (function(frame))
                        @if let Some(arguments) = &frame.arguments {
                            "(" @if shared(nth) { (arguments) } @else { "… differ …" } ")"
                        }
                    }
                    @if let Some(place) = place(frame) { " " small.name { (place) } }
                }
            }
            @if first.len() > MOST_FRAMES { li { (first.len() - MOST_FRAMES) " more frames" } }
        }
    }
}

fn who(tasks: &[&Task]) -> Markup {
    let named: Vec<&&Task> = tasks
        .iter()
        .filter(|task| task.id.is_some() || task.name.is_some())
        .collect();
    html! {
        @if !named.is_empty() {
            (page::table(
                "Tasks with this stack",
                &html! {
                    thead { tr {
                        th scope="col" { "task" } th.number scope="col" { "waits" }
                        th scope="col" { "started by" } th.number scope="col" { "line" }
                    } }
                    tbody {
                        @for task in named.iter().take(MOST_TASKS) {
                            tr {
                                th.name scope="row" {
                                    @if let Some(id) = task.id { (id) " " }
                                    @if let Some(name) = &task.name { (name) }
                                    @if task.locked_to_thread { " locked to its thread" }
                                }
                                td.number { @if let Some(waited) = task.waited { (waited) } @else { "—" } }
                                td.name {
                                    @if let Some(creator) = &task.created_by {
                                        (function(&creator.frame))
                                        @if let Some(task) = creator.task { " in " (task) }
                                    } @else { "—" }
                                }
                                td.number { (task.line) }
                            }
                        }
                    }
                },
            ))
            @if named.len() > MOST_TASKS {
                p.note { (counted(named.len() - MOST_TASKS, "more task")) " with this stack." }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "goroutine 1 [running]:\nmain.main()\n\t/app/main.go:45\n\n\
        goroutine 7 [semacquire, 312 minutes]:\n\
        sync.(*Mutex).Lock(0xc000145000)\n\tsync/mutex.go:102\n\
        main.(*Cache).Get(0xc000145000)\n\t/app/cache.go:45\n\n\
        goroutine 8 [semacquire, 5 minutes]:\n\
        sync.(*Mutex).Lock(0xc000145000)\n\tsync/mutex.go:102\n\
        main.(*Cache).Set(0xc000145000)\n\t/app/cache.go:67\n";

    #[test]
    fn groups_are_counted_the_largest_first_with_the_longest_wait() {
        let dump = TaskDump::parse(DUMP).expect("a dump");
        let groups = grouped(dump.tasks.iter(), |task| Grouping::State.key(task));
        let counts: Vec<(&str, u64)> = groups
            .iter()
            .map(|(key, count, _)| (key.as_str(), *count))
            .collect();
        assert_eq!(counts, [("semacquire", 2), ("running", 1)]);
        let waiting = longest(groups[0].2.iter().copied());
        assert_eq!(waiting, Some(Minutes(312)));
    }

    #[test]
    fn tasks_that_wait_at_the_same_address_are_together() {
        let dump = TaskDump::parse(DUMP).expect("a dump");
        let key = Grouping::Argument.key(&dump.tasks[1]);
        assert_eq!(key, "0xc000145000 in sync.(*Mutex).Lock");
        assert_eq!(key, Grouping::Argument.key(&dump.tasks[2]));
    }

    #[test]
    fn a_dump_says_how_many_wait_and_how_long() {
        let section = section(DUMP.as_bytes()).expect("a dump");
        assert_eq!(section.facts, ["3 tasks", "longest wait 312 min"]);
    }

    #[test]
    fn thousands_of_different_stacks_stay_within_the_page() {
        let mut text = String::new();
        for nth in 0..20_000 {
            text.push_str(&format!(
                "goroutine {nth} [select]:\nmain.f{nth}()\n\t/app/main.go:{nth}\n\n"
            ));
        }
        let body = section(text.as_bytes()).expect("a dump").body.into_string();
        assert!(body.len() < 3 << 20, "{}", body.len());
        assert!(body.contains("more groups are in the dump"));
    }
}
