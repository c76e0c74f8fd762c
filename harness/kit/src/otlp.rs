//! A collector in the process: takes OTLP traces over HTTP, and keeps them for a check to look at.
//!
//! It listens on loopback, on threads of its own, so it answers whatever the runtime of the code
//! under test is doing. Traces are taken at `/v1/traces`, as Protocol Buffers without compression;
//! everything else is refused as a real collector would, and kept as evidence.
//!
//! Not a store: nothing is queried here. Not for a paused clock: exporters use real sockets, so
//! wait for what arrives with [`Collector::spans_within`], or look after the exporter's shutdown.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;

/// The path at which traces are taken.
pub const TRACES: &str = "/v1/traces";
/// The largest body that is read, in bytes.
const MOST_BYTES: u64 = 8 << 20;
/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// A span as it arrived, and the process that it says it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    pub resource: Vec<KeyValue>,
    pub span: Span,
}

impl Received {
    /// The `service.name` of its process.
    pub fn service(&self) -> Option<&str> {
        text(&self.resource, "service.name")
    }

    /// The attributes of the span and their types, for a message.
    pub fn attributes_shown(&self) -> String {
        shown(&self.span.attributes)
    }

    /// The attributes of its process and their types, for a message.
    pub fn resource_shown(&self) -> String {
        shown(&self.resource)
    }

    /// The status of the span, for a message: `Unset`, `Ok`, or `Error` and its description.
    pub fn status_shown(&self) -> String {
        let status = self.span.status.clone().unwrap_or_default();
        match status.code() {
            StatusCode::Unset => "Unset".to_owned(),
            StatusCode::Ok => "Ok".to_owned(),
            StatusCode::Error => format!("Error {:?}", status.message),
        }
    }

    /// An attribute of the span that is a whole number.
    pub fn int(&self, name: &str) -> Option<i64> {
        match value(&self.span.attributes, name)? {
            any_value::Value::IntValue(number) => Some(*number),
            _ => None,
        }
    }

    /// An attribute of the span that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        text(&self.span.attributes, name)
    }
}

/// A request that the collector answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Method and path.
    pub request: String,
    /// The status of the answer, such as 200.
    pub status: u16,
    /// How many spans it brought.
    pub spans: usize,
}

/// A collector that listens until it is dropped.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    kept: Mutex<Kept>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Kept {
    received: Vec<Received>,
    answered: Vec<Answered>,
    closed: bool,
}

impl Collector {
    /// Starts to listen on a free port of the loopback device.
    ///
    /// # Panics
    /// When the system gives no port or no thread.
    pub fn start() -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the system refuses a port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::Builder::new()
            .name("collector".into())
            .spawn(move || listen(&listener, &shared))
            .expect("the system refuses one more thread");
        Collector { address, state }
    }

    /// Its base URL, without a path: `http://127.0.0.1:40123`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans that have arrived, in the order of their arrival.
    pub fn spans(&self) -> Vec<Received> {
        self.state.lock().received.clone()
    }

    /// Waits until at least `spans` spans have arrived, and gives those that have. Blocks the thread.
    pub fn spans_within(&self, spans: usize, patience: Duration) -> Vec<Received> {
        self.wait(patience, |kept| kept.received.len() >= spans)
            .received
            .clone()
    }

    /// What was asked of it, in the order of the answers.
    pub fn answered(&self) -> Vec<Answered> {
        self.state.lock().answered.clone()
    }

    fn wait(&self, patience: Duration, enough: impl Fn(&Kept) -> bool) -> MutexGuard<'_, Kept> {
        let (kept, _) = self
            .state
            .changed
            .wait_timeout_while(self.state.lock(), patience, |kept| !enough(kept))
            .unwrap_or_else(PoisonError::into_inner);
        kept
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.state.lock().closed = true;
        // Wakes the thread that accepts, so that it sees that it is over.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen(listener: &TcpListener, state: &Arc<State>) {
    for connection in listener.incoming() {
        if state.lock().closed {
            return;
        }
        let Ok(connection) = connection else { continue };
        let state = Arc::clone(state);
        // A connection that breaks is the exporter's to notice.
        let _ = thread::Builder::new()
            .name("collector".into())
            .spawn(move || serve(&connection, &state));
    }
}

fn serve(connection: &TcpStream, state: &State) -> std::io::Result<()> {
    connection.set_read_timeout(Some(SILENCE))?;
    connection.set_write_timeout(Some(SILENCE))?;
    let mut reader = BufReader::new(connection);
    while let Some(request) = read_request(&mut reader)? {
        let (status, received) = judge(&request);
        {
            let mut kept = state.lock();
            kept.answered.push(Answered {
                request: format!("{} {}", request.method, request.path),
                status,
                spans: received.len(),
            });
            kept.received.extend(received);
            state.changed.notify_all();
        }
        // An empty body is an `ExportTraceServiceResponse` in which nothing was refused.
        let answer = format!(
            "HTTP/1.1 {status} {}\r\ncontent-type: application/x-protobuf\r\ncontent-length: \
             0\r\n\r\n",
            if status == 200 { "OK" } else { "Refused" }
        );
        let mut writer = connection;
        writer.write_all(answer.as_bytes())?;
    }
    Ok(())
}

struct Request {
    method: String,
    path: String,
    protobuf: bool,
    body: Vec<u8>,
}

/// `None` when the other side has closed the connection between two requests.
fn read_request(reader: &mut BufReader<&TcpStream>) -> std::io::Result<Option<Request>> {
    let malformed = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let mut line = String::new();
    if reader.by_ref().take(MOST_BYTES).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let method = words.next().ok_or_else(malformed)?;
    let path = words.next().ok_or_else(malformed)?;
    let mut length = 0;
    let mut protobuf = false;
    loop {
        line.clear();
        if reader.by_ref().take(MOST_BYTES).read_line(&mut line)? == 0 {
            return Err(malformed());
        }
        if line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(malformed)?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().map_err(|_| malformed())?,
            "content-type" => protobuf = value.trim() == "application/x-protobuf",
            _ => {}
        }
    }
    if length > MOST_BYTES {
        return Err(malformed());
    }
    let mut body = Vec::new();
    reader.by_ref().take(length).read_to_end(&mut body)?;
    Ok(Some(Request {
        method,
        path,
        protobuf,
        body,
    }))
}

fn judge(request: &Request) -> (u16, Vec<Received>) {
    if request.path != TRACES {
        return (404, Vec::new());
    }
    if request.method != "POST" {
        return (405, Vec::new());
    }
    if !request.protobuf {
        return (415, Vec::new());
    }
    match ExportTraceServiceRequest::decode(request.body.as_slice()) {
        Ok(export) => (200, spans_of(export)),
        Err(_) => (400, Vec::new()),
    }
}

fn spans_of(export: ExportTraceServiceRequest) -> Vec<Received> {
    let mut received = Vec::new();
    for process in export.resource_spans {
        let resource = process
            .resource
            .map(|resource| resource.attributes)
            .unwrap_or_default();
        for scope in process.scope_spans {
            received.extend(scope.spans.into_iter().map(|span| Received {
                resource: resource.clone(),
                span,
            }));
        }
    }
    received
}

fn value<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a any_value::Value> {
    let held = attributes.iter().find(|held| held.key == name)?;
    match &held.value {
        Some(AnyValue { value }) => value.as_ref(),
        None => None,
    }
}

fn text<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a str> {
    match value(attributes, name)? {
        any_value::Value::StringValue(text) => Some(text),
        _ => None,
    }
}

fn shown(attributes: &[KeyValue]) -> String {
    if attributes.is_empty() {
        return "none".to_owned();
    }
    let one = |held: &KeyValue| {
        let value = held.value.as_ref().and_then(|value| value.value.as_ref());
        let value = match value {
            Some(any_value::Value::StringValue(text)) => format!("{text:?} (string)"),
            Some(any_value::Value::IntValue(number)) => format!("{number} (int)"),
            Some(any_value::Value::DoubleValue(number)) => format!("{number} (double)"),
            Some(any_value::Value::BoolValue(truth)) => format!("{truth} (bool)"),
            Some(_) => "neither a number nor a text".to_owned(),
            None => "nothing".to_owned(),
        };
        format!("{} = {value}", held.key)
    };
    attributes.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};

    /// The status line of the answer.
    fn post(collector: &Collector, path: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(collector.address).expect("it listens");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nContent-Type: application/x-protobuf\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("it reads");
        stream.write_all(body).expect("it reads");
        let mut line = String::new();
        BufReader::new(stream)
            .read_line(&mut line)
            .expect("it answers");
        line.trim().to_owned()
    }

    fn export(spans: usize) -> Vec<u8> {
        let name = AnyValue {
            value: Some(any_value::Value::StringValue("photos".into())),
        };
        let process = ResourceSpans {
            resource: Some(Resource {
                attributes: vec![KeyValue {
                    key: "service.name".into(),
                    value: Some(name),
                    ..KeyValue::default()
                }],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                spans: vec![Span::default(); spans],
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        };
        ExportTraceServiceRequest {
            resource_spans: vec![process],
        }
        .encode_to_vec()
    }

    #[test]
    fn spans_are_kept_with_the_process_that_they_come_from() {
        let collector = Collector::start();
        assert_eq!(post(&collector, TRACES, &export(3)), "HTTP/1.1 200 OK");
        let spans = collector.spans_within(3, Duration::from_secs(5));
        let services: Vec<_> = spans.iter().map(Received::service).collect();
        assert_eq!(services, [Some("photos"); 3]);
        assert_eq!(
            spans[0].resource_shown(),
            "service.name = \"photos\" (string)"
        );
        assert_eq!(spans[0].attributes_shown(), "none");
        assert_eq!(spans[0].status_shown(), "Unset");
    }

    #[test]
    fn what_is_no_export_is_refused_and_kept_as_evidence() {
        let collector = Collector::start();
        assert_eq!(post(&collector, "/", &export(1)), "HTTP/1.1 404 Refused");
        assert_eq!(post(&collector, TRACES, b"{}"), "HTTP/1.1 400 Refused");
        let answered = collector.answered();
        let statuses: Vec<_> = answered.iter().map(|a| (&*a.request, a.status)).collect();
        assert_eq!(statuses, [("POST /", 404), ("POST /v1/traces", 400)]);
        assert!(collector.spans().is_empty());
    }
}
