//! Reads the tokens of a template into a tree.

use super::Fault;
use super::functions::Function;
use super::lex::{Token, lex};

#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(String),
    /// A pipeline whose value is printed, unless it sets variables.
    Action(Pipeline),
    If {
        condition: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        value: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Break,
    Continue,
}

#[derive(Debug, Clone)]
pub(super) struct Pipeline {
    pub(super) at: usize,
    /// The variables that it sets.
    pub(super) variables: Vec<String>,
    /// Whether it declares them, rather than setting ones that are there.
    pub(super) declares: bool,
    pub(super) commands: Vec<Command>,
}

#[derive(Debug, Clone)]
pub(super) struct Command {
    pub(super) at: usize,
    /// The first is what is called or taken, the others are its arguments.
    pub(super) operands: Vec<Operand>,
}

#[derive(Debug, Clone)]
pub(super) struct Operand {
    pub(super) at: usize,
    pub(super) base: Base,
    /// Fields of the base, as in `.Labels.job`.
    pub(super) fields: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Function(Function),
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    Nil,
    Pipeline(Box<Pipeline>),
}

pub(super) struct Parsed {
    pub(super) nodes: Vec<Node>,
    pub(super) asks: bool,
}

/// The variables that Prometheus gives every template.
pub(super) const GIVEN: [&str; 5] = ["$", "$labels", "$externalLabels", "$externalURL", "$value"];

/// How deep blocks and parentheses may be nested.
const DEEPEST: usize = 50;

pub(super) fn parse(text: &str) -> Result<Parsed, Fault> {
    let mut parser = Parser {
        tokens: lex(text)?,
        next: 0,
        end: text.len(),
        variables: GIVEN.iter().map(|&name| name.to_owned()).collect(),
        depth: 0,
        loops: 0,
        asks: false,
    };
    let (nodes, end) = parser.nodes()?;
    match end {
        Ending::Text => Ok(Parsed {
            nodes,
            asks: parser.asks,
        }),
        Ending::End(at) => Err(Fault::new(at, "`end` ends nothing").remedy("take it away")),
        Ending::Else(at) => Err(Fault::new(at, "`else` belongs to nothing")
            .remedy("it belongs between `if`, `with` or `range` and `end`")),
    }
}

/// What ended a list of nodes.
enum Ending {
    Text,
    End(usize),
    /// The word has been read, the rest of its action has not.
    Else(usize),
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    next: usize,
    end: usize,
    variables: Vec<String>,
    depth: usize,
    loops: usize,
    asks: bool,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(token, _)| token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |&(_, at)| at)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.next).map(|(token, _)| token.clone());
        self.next += 1;
        token
    }

    fn skip_space(&mut self) {
        while self.peek() == Some(&Token::Space) {
            self.next += 1;
        }
    }

    fn nodes(&mut self) -> Result<(Vec<Node>, Ending), Fault> {
        let mut nodes = Vec::new();
        loop {
            let at = self.at();
            match self.take() {
                None => return Ok((nodes, Ending::Text)),
                Some(Token::Text(text)) => nodes.push(Node::Text(text)),
                Some(_) => {
                    self.skip_space();
                    let word = match self.peek() {
                        Some(Token::Word(word)) => word.clone(),
                        _ => String::new(),
                    };
                    if is_keyword(&word) {
                        self.next += 1;
                    }
                    match word.as_str() {
                        "end" => {
                            self.close()?;
                            return Ok((nodes, Ending::End(at)));
                        }
                        "else" => return Ok((nodes, Ending::Else(at))),
                        "if" | "with" | "range" => nodes.push(self.block(&word, at)?),
                        "break" | "continue" => {
                            if self.loops == 0 {
                                return Err(Fault::new(
                                    at,
                                    format!("`{word}` is outside of `range`"),
                                ));
                            }
                            self.close()?;
                            nodes.push(if word == "break" {
                                Node::Break
                            } else {
                                Node::Continue
                            });
                        }
                        "define" | "template" | "block" => {
                            return Err(Fault::new(
                                at,
                                format!("`{word}` is not taken in the templates of rules here"),
                            )
                            .remedy("write the text out in each annotation"));
                        }
                        _ => {
                            let pipeline = self.pipeline("an action", false)?;
                            self.close()?;
                            nodes.push(Node::Action(pipeline));
                        }
                    }
                }
            }
        }
    }

    fn close(&mut self) -> Result<(), Fault> {
        self.skip_space();
        let at = self.at();
        match self.take() {
            Some(Token::Close) => Ok(()),
            _ => Err(Fault::new(at, "more than belongs in the action")
                .remedy("end the action before this by `}}`")),
        }
    }

    fn block(&mut self, word: &str, at: usize) -> Result<Node, Fault> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Fault::new(at, "blocks are nested too deep"));
        }
        let scope = self.variables.len();
        let head = self.pipeline(&format!("`{word}`"), word == "range")?;
        self.close()?;
        self.loops += usize::from(word == "range");
        let (then, mut end) = self.nodes()?;
        self.loops -= usize::from(word == "range");
        let mut otherwise = Vec::new();
        if let Ending::Else(at) = end {
            self.skip_space();
            match self.peek() {
                Some(Token::Word(next)) if next == "if" && word == "if" => {
                    self.next += 1;
                    otherwise.push(self.block("if", at)?);
                    end = Ending::End(at);
                }
                _ => {
                    self.close()?;
                    (otherwise, end) = self.nodes()?;
                }
            }
        }
        self.variables.truncate(scope);
        self.depth -= 1;
        match end {
            Ending::End(_) => {}
            Ending::Text => {
                return Err(Fault::new(at, format!("`{word}` does not end"))
                    .remedy("close it by `{{ end }}`"));
            }
            Ending::Else(at) => return Err(Fault::new(at, "a second `else`")),
        }
        Ok(match word {
            "if" => Node::If {
                condition: head,
                then,
                otherwise,
            },
            "with" => Node::With {
                value: head,
                then,
                otherwise,
            },
            _ => Node::Range {
                over: head,
                body: then,
                otherwise,
            },
        })
    }

    /// The variables that a pipeline sets, if it begins by naming some.
    fn targets(&mut self, in_range: bool) -> Result<(Vec<String>, bool), Fault> {
        let start = self.next;
        let mut names = Vec::new();
        loop {
            self.skip_space();
            let at = self.at();
            let Some(Token::Variable(name)) = self.take() else {
                break;
            };
            names.push((name, at));
            self.skip_space();
            match self.take() {
                Some(Token::Comma) if in_range && names.len() < 2 => {}
                Some(Token::Declare) => {
                    let names: Vec<String> = names.into_iter().map(|(name, _)| name).collect();
                    return Ok((names, true));
                }
                Some(Token::Assign) => {
                    for (name, at) in &names {
                        self.known(name, *at)?;
                    }
                    return Ok((names.into_iter().map(|(name, _)| name).collect(), false));
                }
                _ => break,
            }
        }
        self.next = start;
        Ok((Vec::new(), false))
    }

    fn known(&self, name: &str, at: usize) -> Result<(), Fault> {
        if self.variables.iter().any(|known| known == name) {
            return Ok(());
        }
        let mut variables = self.variables[1..].join(", ");
        if variables.is_empty() {
            variables = "none".to_owned();
        }
        Err(Fault::new(at, format!("undefined variable `{name}`"))
            .remedy(format!("the variables here are {variables}")))
    }

    fn pipeline(&mut self, context: &str, in_range: bool) -> Result<Pipeline, Fault> {
        self.depth += 1;
        if self.depth > 2 * DEEPEST {
            return Err(Fault::new(self.at(), "parentheses are nested too deep"));
        }
        self.skip_space();
        let at = self.at();
        let (variables, declares) = self.targets(in_range)?;
        let mut commands = Vec::new();
        loop {
            self.skip_space();
            let at = self.at();
            let operands = self.operands()?;
            let Some(first) = operands.first() else {
                let what = if commands.is_empty() {
                    format!("{context} has no value")
                } else {
                    "nothing follows `|`".to_owned()
                };
                return Err(Fault::new(at, what).remedy("name a variable, a field or a function"));
            };
            let called = matches!(first.base, Base::Function(_));
            if !commands.is_empty() && !called && is_constant(&first.base) {
                return Err(
                    Fault::new(at, "a constant cannot take what is piped into it")
                        .remedy("pipe into a function"),
                );
            }
            commands.push(Command { at, operands });
            match self.peek() {
                Some(Token::Pipe) => self.next += 1,
                _ => break,
            }
        }
        if declares {
            self.variables.extend(variables.iter().cloned());
        }
        self.depth -= 1;
        Ok(Pipeline {
            at,
            variables,
            declares,
            commands,
        })
    }

    fn operands(&mut self) -> Result<Vec<Operand>, Fault> {
        let mut operands = Vec::new();
        loop {
            self.skip_space();
            let at = self.at();
            let base = match self.peek() {
                None | Some(Token::Close | Token::Pipe | Token::RightParen) => {
                    return Ok(operands);
                }
                Some(_) => match self.take() {
                    Some(Token::Dot) => Base::Dot,
                    Some(Token::Field(name)) => {
                        let mut fields = vec![name];
                        self.fields(&mut fields);
                        operands.push(Operand {
                            at,
                            base: Base::Dot,
                            fields,
                        });
                        self.separated()?;
                        continue;
                    }
                    Some(Token::Variable(name)) => {
                        self.known(&name, at)?;
                        Base::Variable(name)
                    }
                    Some(Token::Quoted(text)) => Base::Text(text),
                    Some(Token::Int(value)) => Base::Int(value),
                    Some(Token::Float(value)) => Base::Float(value),
                    Some(Token::LeftParen) => {
                        let inner = self.pipeline("the parenthesis", false)?;
                        self.skip_space();
                        let at = self.at();
                        if self.take() != Some(Token::RightParen) {
                            return Err(Fault::new(at, "`)` is missing before this"));
                        }
                        Base::Pipeline(Box::new(inner))
                    }
                    Some(Token::Word(word)) => self.word(&word, at)?,
                    _ => return Err(Fault::new(at, "this belongs elsewhere")),
                },
            };
            let mut fields = Vec::new();
            self.fields(&mut fields);
            if !fields.is_empty() && is_constant(&base) {
                return Err(Fault::new(at, "a constant has no fields"));
            }
            operands.push(Operand { at, base, fields });
            self.separated()?;
        }
    }

    /// Two operands need a space between them.
    fn separated(&mut self) -> Result<(), Fault> {
        match self.peek() {
            None | Some(Token::Space | Token::Close | Token::Pipe | Token::RightParen) => Ok(()),
            Some(_) => Err(Fault::new(self.at(), "a space is missing before this")),
        }
    }

    fn fields(&mut self, into: &mut Vec<String>) {
        while let Some(Token::Field(name)) = self.peek() {
            into.push(name.clone());
            self.next += 1;
        }
    }

    fn word(&mut self, word: &str, at: usize) -> Result<Base, Fault> {
        match word {
            "true" => return Ok(Base::Bool(true)),
            "false" => return Ok(Base::Bool(false)),
            "nil" => return Ok(Base::Nil),
            _ => {}
        }
        if is_keyword(word) {
            return Err(Fault::new(at, format!("`{word}` does not stand here")));
        }
        let function = Function::named(word).map_err(|remedy| {
            Fault::new(at, format!("function `{word}` is not defined")).remedy(remedy)
        })?;
        self.asks |= function.asks();
        Ok(Base::Function(function))
    }
}

fn is_constant(base: &Base) -> bool {
    matches!(
        base,
        Base::Text(_) | Base::Int(_) | Base::Float(_) | Base::Bool(_) | Base::Nil
    )
}

fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "if" | "else"
            | "end"
            | "range"
            | "with"
            | "break"
            | "continue"
            | "define"
            | "template"
            | "block"
    )
}
