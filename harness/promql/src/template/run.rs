//! Fills a template in.

use crate::Labels;
use crate::value::Sample;

use super::functions::{Call, Function};
use super::number::shortest;
use super::parse::{Base, Command, GIVEN, Node, Operand, Pipeline};
use super::{Ask, Fault, TemplateData};

/// How long a text may become, in bytes.
const LONGEST: usize = 1 << 20;

/// How many parts a template may fill in, those of loops counted each time.
const MOST_STEPS: usize = 200_000;

#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Go's `nil`, and what a field of nothing is.
    Nothing,
    Text(String),
    Float(f64),
    Int(i64),
    Bool(bool),
    Labels(Labels),
    Sample(Sample),
    Vector(Vec<Sample>),
    /// The arguments that `args` packs, in order.
    Packed(Vec<Value>),
    /// The data as a whole.
    Data,
}

impl Value {
    /// The type in Go's words.
    pub(super) fn go_type(&self) -> &'static str {
        match self {
            Value::Nothing => "nil",
            Value::Text(_) => "string",
            Value::Float(_) => "float64",
            Value::Int(_) => "int",
            Value::Bool(_) => "bool",
            Value::Labels(_) => "map[string]string",
            Value::Sample(_) => "sample",
            Value::Vector(_) => "queryResult",
            Value::Packed(_) => "map[string]interface {}",
            Value::Data => "the data",
        }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::Nothing => false,
            Value::Text(text) => !text.is_empty(),
            Value::Float(value) => *value != 0.0,
            Value::Int(value) => *value != 0,
            Value::Bool(value) => *value,
            Value::Labels(labels) => !labels.is_empty(),
            Value::Vector(samples) => !samples.is_empty(),
            Value::Packed(values) => !values.is_empty(),
            Value::Sample(_) | Value::Data => true,
        }
    }

    /// As Go's `%v` writes it.
    pub(super) fn printed(&self) -> Result<String, String> {
        Ok(match self {
            Value::Nothing => "<nil>".to_owned(),
            Value::Text(text) => text.clone(),
            Value::Float(value) => shortest(*value),
            Value::Int(value) => value.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Labels(labels) => printed_labels(labels),
            Value::Packed(values) => {
                let mut pairs = Vec::new();
                for (index, value) in values.iter().enumerate() {
                    pairs.push(format!("arg{index}:{}", value.printed()?));
                }
                format!("map[{}]", pairs.join(" "))
            }
            Value::Sample(_) | Value::Vector(_) => {
                return Err("a query's answer cannot be printed as it is".to_owned());
            }
            Value::Data => return Err("the data as a whole cannot be printed".to_owned()),
        })
    }
}

fn printed_labels(labels: &Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}:{value}"))
        .collect();
    format!("map[{}]", pairs.join(" "))
}

pub(super) fn run(nodes: &[Node], data: TemplateData<'_>, ask: &Ask<'_>) -> Result<String, Fault> {
    let given = [
        Value::Data,
        Value::Labels(data.labels.clone()),
        Value::Labels(data.external_labels.clone()),
        Value::Text(data.external_url.to_owned()),
        Value::Float(data.value),
    ];
    let mut runner = Runner {
        data,
        ask,
        variables: GIVEN
            .iter()
            .map(|&name| name.to_owned())
            .zip(given)
            .collect(),
        out: String::new(),
        steps: 0,
    };
    runner.nodes(nodes, &Value::Data)?;
    Ok(runner.out)
}

#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Runner<'a> {
    data: TemplateData<'a>,
    ask: &'a Ask<'a>,
    variables: Vec<(String, Value)>,
    out: String,
    steps: usize,
}

impl Runner<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, Fault> {
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn count(&mut self, at: usize) -> Result<(), Fault> {
        self.steps += 1;
        if self.steps > MOST_STEPS {
            return Err(Fault::new(at, "the template goes round too often")
                .remedy("loop over fewer samples, not in a loop of a loop"));
        }
        Ok(())
    }

    fn write(&mut self, at: usize, text: &str) -> Result<(), Fault> {
        if self.out.len() + text.len() > LONGEST {
            return Err(Fault::new(at, "the text becomes longer than a megabyte"));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, Fault> {
        match node {
            Node::Text(text) => self.write(0, text)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    let text = match value {
                        Value::Nothing => "<no value>".to_owned(),
                        value => value.printed().map_err(|what| {
                            Fault::new(pipeline.at, what)
                                .remedy("take a part of it, as in `.Value` or `.Labels.job`")
                        })?,
                    };
                    self.write(pipeline.at, &text)?;
                }
            }
            Node::If {
                condition,
                then,
                otherwise,
            } => {
                let scope = self.variables.len();
                let branch = if self.pipeline(condition, dot)?.is_true() {
                    then
                } else {
                    otherwise
                };
                let flow = self.nodes(branch, dot)?;
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::With {
                value,
                then,
                otherwise,
            } => {
                let scope = self.variables.len();
                let found = self.pipeline(value, dot)?;
                let flow = if found.is_true() {
                    self.nodes(then, &found)?
                } else {
                    self.nodes(otherwise, dot)?
                };
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::Range {
                over,
                body,
                otherwise,
            } => {
                let scope = self.variables.len();
                let flow = self.range(over, body, otherwise, dot)?;
                self.variables.truncate(scope);
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn range(
        &mut self,
        over: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow, Fault> {
        let found = self.commands(over, dot)?;
        let items: Vec<(Value, Value)> = match found {
            Value::Vector(samples) => (0..)
                .zip(samples)
                .map(|(index, sample)| (Value::Int(index), Value::Sample(sample)))
                .collect(),
            Value::Labels(labels) => labels
                .iter()
                .map(|(name, value)| (Value::Text(name.into()), Value::Text(value.into())))
                .collect(),
            Value::Packed(values) => values
                .into_iter()
                .enumerate()
                .map(|(index, value)| (Value::Text(format!("arg{index}")), value))
                .collect(),
            Value::Nothing => Vec::new(),
            other => {
                return Err(Fault::new(
                    over.at,
                    format!("range can't iterate over {}", other.go_type()),
                )
                .remedy("range over a query's answer or over labels"));
            }
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, item) in items {
            self.count(over.at)?;
            let scope = self.variables.len();
            match over.variables.as_slice() {
                [] => {}
                [element] => self.set(element, item.clone(), over.declares),
                [index, element, ..] => {
                    self.set(index, key, over.declares);
                    self.set(element, item.clone(), over.declares);
                }
            }
            let flow = self.nodes(body, &item)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn set(&mut self, name: &str, value: Value, declares: bool) {
        if !declares {
            let held = self
                .variables
                .iter_mut()
                .rev()
                .find(|(held, _)| held == name);
            if let Some((_, held)) = held {
                *held = value;
                return;
            }
        }
        self.variables.push((name.to_owned(), value));
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, Fault> {
        let value = self.commands(pipeline, dot)?;
        for name in &pipeline.variables {
            self.set(name, value.clone(), pipeline.declares);
        }
        Ok(value)
    }

    fn commands(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, Fault> {
        self.count(pipeline.at)?;
        let mut piped = None;
        for command in &pipeline.commands {
            piped = Some(self.command(command, dot, piped)?);
        }
        Ok(piped.unwrap_or(Value::Nothing))
    }

    fn command(
        &mut self,
        command: &Command,
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, Fault> {
        let [first, arguments @ ..] = command.operands.as_slice() else {
            return Ok(Value::Nothing);
        };
        if let (Base::Function(function), []) = (&first.base, first.fields.as_slice()) {
            return self.call(function, command.at, arguments, dot, piped);
        }
        if !arguments.is_empty() || piped.is_some() {
            return Err(Fault::new(first.at, "can't give argument to non-function")
                .remedy("begin with a function, and put a call as an argument in parentheses"));
        }
        if matches!(first.base, Base::Nil) {
            return Err(Fault::new(first.at, "nil is not a command"));
        }
        self.operand(first, dot)
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, Fault> {
        let mut value = match &operand.base {
            Base::Dot => dot.clone(),
            Base::Variable(name) => self
                .variables
                .iter()
                .rev()
                .find(|(held, _)| held == name)
                .map(|(_, value)| value.clone())
                .ok_or_else(|| {
                    Fault::new(operand.at, format!("undefined variable `{name}` here"))
                })?,
            Base::Function(function) => self.call(function, operand.at, &[], dot, None)?,
            Base::Text(text) => Value::Text(text.clone()),
            Base::Int(value) => Value::Int(*value),
            Base::Float(value) => Value::Float(*value),
            Base::Bool(value) => Value::Bool(*value),
            Base::Nil => Value::Nothing,
            Base::Pipeline(pipeline) => self.pipeline(pipeline, dot)?,
        };
        for field in &operand.fields {
            value = self.field(&value, field).ok_or_else(|| {
                Fault::new(
                    operand.at,
                    format!("can't evaluate field {field} in type {}", value.go_type()),
                )
                .remedy("the data has Labels, ExternalLabels, ExternalURL and Value; a sample has Labels and Value")
            })?;
        }
        Ok(value)
    }

    fn field(&self, value: &Value, name: &str) -> Option<Value> {
        match (value, name) {
            (Value::Data, "Labels") => Some(Value::Labels(self.data.labels.clone())),
            (Value::Data, "ExternalLabels") => {
                Some(Value::Labels(self.data.external_labels.clone()))
            }
            (Value::Data, "ExternalURL") => Some(Value::Text(self.data.external_url.to_owned())),
            (Value::Data, "Value") => Some(Value::Float(self.data.value)),
            (Value::Labels(labels), name) => Some(Value::Text(labels.value(name).to_owned())),
            (Value::Sample(sample), "Labels") => Some(Value::Labels(sample.labels.clone())),
            (Value::Sample(sample), "Value") => Some(Value::Float(sample.value)),
            (Value::Packed(values), name) => Some(
                name.strip_prefix("arg")
                    .and_then(|index| index.parse::<usize>().ok())
                    .and_then(|index| values.get(index).cloned())
                    .unwrap_or(Value::Nothing),
            ),
            _ => None,
        }
    }

    fn call(
        &mut self,
        function: &Function,
        at: usize,
        operands: &[Operand],
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, Fault> {
        let count = operands.len() + usize::from(piped.is_some());
        function.check_count(count).map_err(|what| {
            Fault::new(at, what).remedy("mind that `|` gives its value as the last argument")
        })?;
        let mut arguments = Vec::with_capacity(count);
        for operand in operands {
            let value = self.operand(operand, dot)?;
            // `and` and `or` look no further than they must.
            if function.is_decided_by(&value) {
                return Ok(value);
            }
            arguments.push(value);
        }
        arguments.extend(piped);
        if function.asks() {
            // A query is work for many steps.
            self.steps += 100;
        }
        let call = Call {
            arguments: &arguments,
            ask: self.ask,
            external_url: self.data.external_url,
        };
        function.call(&call).map_err(|problem| Fault {
            at,
            what: format!("error calling {}: {}", function.name(), problem.what),
            remedy: problem.remedy,
        })
    }
}
