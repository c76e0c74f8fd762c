//! HTTP/1.1 requests over a plain socket, for checks of what a server answers.
//!
//! Requests are written as they are given, so that a check can send what a well-behaved client
//! refuses to: control characters in a header, bytes that are no text, no request at all. Responses
//! are read strictly, and within limits of time and size.
//!
//! Not a client: no TLS, no redirects, no connection reuse. Not for a paused clock
//! ([`crate::time::paused`]), under which time runs out before the bytes arrive.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long a request may take from the first byte sent to the last one read.
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest response that is read, head included, in bytes.
pub const SIZE_LIMIT: usize = 8 << 20;
/// The most headers that a response may have.
const MOST_HEADERS: usize = 128;

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code, such as 200.
    pub status: u16,
    /// In the order of the response; names as the server writes them, values as bytes.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Without the framing of chunks.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of a name, compared without regard to case, if its value is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// The values of all headers of a name, compared without regard to case.
    pub fn headers_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    /// The body as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Why there is no response. Completes "could not get …".
#[derive(Debug)]
pub enum HttpError {
    /// Nobody listens there, or the connection broke.
    Io {
        address: SocketAddr,
        source: std::io::Error,
    },
    /// The server did not answer completely in time.
    TimedOut { after: Duration, received: usize },
    /// The clock of the runtime is paused, and has jumped over the answer.
    ClockPaused,
    /// The response is larger than [`SIZE_LIMIT`].
    TooLarge,
    /// The connection was closed before the response was complete; `received` is in bytes.
    CutShort { received: usize },
    /// What came is not HTTP/1.x.
    Malformed(String),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpError::Io { address, source } => {
                write!(f, "the connection to {address} failed: {source}")
            }
            HttpError::TimedOut { after, received } => write!(
                f,
                "the server did not answer completely within {after:?} ({received} bytes came)"
            ),
            HttpError::ClockPaused => f.write_str(
                "the runtime's clock is paused, and sockets need a clock that runs: build the \
                 runtime without `start_paused`",
            ),
            HttpError::TooLarge => write!(f, "the response is larger than {SIZE_LIMIT} bytes"),
            HttpError::CutShort { received } => write!(
                f,
                "the server closed the connection before its response was complete ({received} \
                 bytes came)"
            ),
            HttpError::Malformed(why) => write!(f, "the response is not HTTP/1.1: {why}"),
        }
    }
}

impl std::error::Error for HttpError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            HttpError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Gets `path` from the server at `address`.
///
/// The headers are sent byte by byte as given, after `host` and `connection: close`; nothing in
/// them is escaped or refused.
///
/// # Errors
/// When there is no complete response within [`TIMEOUT`] and [`SIZE_LIMIT`]. A status such as 500
/// is a response.
pub async fn get(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &[u8])],
) -> Result<Response, HttpError> {
    request(address, "GET", path, headers, b"").await
}

/// Sends a request with a body, whose length is stated unless it is empty.
///
/// # Errors
/// As [`get`].
pub async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &[u8])],
    body: &[u8],
) -> Result<Response, HttpError> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n")
        .into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    if !body.is_empty() {
        bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    exchange(address, &bytes, method != "HEAD", TIMEOUT).await
}

/// Sends bytes as they are, and reads one response.
///
/// # Errors
/// As [`get`].
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> Result<Response, HttpError> {
    exchange(address, bytes, !bytes.starts_with(b"HEAD "), TIMEOUT).await
}

async fn exchange(
    address: SocketAddr,
    request: &[u8],
    has_body: bool,
    timeout: Duration,
) -> Result<Response, HttpError> {
    let io = |source| HttpError::Io { address, source };
    let mut received = Vec::new();
    let work = async {
        let mut stream = TcpStream::connect(address).await.map_err(io)?;
        // A server that refuses a request may answer and close while it is still being sent.
        let sent = stream.write_all(request).await;
        loop {
            if let Some(response) = parse(&received, has_body, false)? {
                return Ok(response);
            }
            if received.len() > SIZE_LIMIT {
                return Err(HttpError::TooLarge);
            }
            match stream.read_buf(&mut received).await {
                Ok(0) => {
                    return match parse(&received, has_body, true)? {
                        Some(response) => Ok(response),
                        None => match &sent {
                            Err(error) => Err(io(error.kind().into())),
                            Ok(()) => Err(HttpError::CutShort {
                                received: received.len(),
                            }),
                        },
                    };
                }
                Ok(_) => {}
                Err(error) => {
                    return parse(&received, has_body, true)?.ok_or_else(|| io(error));
                }
            }
        }
    };
    let started = std::time::Instant::now();
    let result = tokio::time::timeout(timeout, work).await;
    match result {
        Ok(result) => result,
        Err(_) if started.elapsed() < timeout / 2 => Err(HttpError::ClockPaused),
        Err(_) => Err(HttpError::TimedOut {
            after: timeout,
            received: received.len(),
        }),
    }
}

/// The response in `bytes`, or `None` when more has to come; `ended` says that no more will.
fn parse(bytes: &[u8], has_body: bool, ended: bool) -> Result<Option<Response>, HttpError> {
    let malformed = |error: httparse::Error| HttpError::Malformed(error.to_string());
    let mut slots = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut head = httparse::Response::new(&mut slots);
    let httparse::Status::Complete(length) = head.parse(bytes).map_err(malformed)? else {
        return Ok(None);
    };
    let status = head.code.unwrap_or_default();
    let headers: Vec<(String, Vec<u8>)> = head
        .headers
        .iter()
        .map(|header| (header.name.to_owned(), header.value.to_vec()))
        .collect();
    let rest = &bytes[length..];
    let mut response = Response {
        status,
        headers,
        body: Vec::new(),
    };
    // An interim response comes before the one that counts (RFC 9110, section 15.2).
    if (100..200).contains(&status) && status != 101 {
        return parse(rest, has_body, ended);
    }
    if !has_body || matches!(status, 101 | 204 | 304) {
        return Ok(Some(response));
    }
    // The order of RFC 9112, section 6.3: chunks, then a length, then the end of the connection.
    if let Some(encoding) = response.header("transfer-encoding") {
        if !encoding.trim().eq_ignore_ascii_case("chunked") {
            return Err(HttpError::Malformed(format!(
                "the transfer encoding `{encoding}` is not `chunked`"
            )));
        }
        return Ok(dechunked(rest)?.map(|body| {
            response.body = body;
            response
        }));
    }
    let body = match content_length(&response)? {
        Some(length) => rest.get(..length),
        None => ended.then_some(rest),
    };
    Ok(body.map(|body| {
        response.body = body.to_vec();
        response
    }))
}

fn content_length(response: &Response) -> Result<Option<usize>, HttpError> {
    let mut lengths = response.headers_named("content-length");
    let Some(first) = lengths.next() else {
        return Ok(None);
    };
    if lengths.any(|other| other != first) {
        return Err(HttpError::Malformed(
            "it states two different content lengths".to_owned(),
        ));
    }
    let length: usize = std::str::from_utf8(first)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            HttpError::Malformed(format!(
                "its content length is `{}`",
                String::from_utf8_lossy(first)
            ))
        })?;
    if length > SIZE_LIMIT {
        return Err(HttpError::TooLarge);
    }
    Ok(Some(length))
}

/// The body in `rest` without the framing of its chunks, or `None` when more has to come.
fn dechunked(mut rest: &[u8]) -> Result<Option<Vec<u8>>, HttpError> {
    let mut body = Vec::new();
    loop {
        let (start, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => {
                return Err(HttpError::Malformed(
                    "a chunk begins without its size".to_owned(),
                ));
            }
        };
        rest = &rest[start..];
        if size == 0 {
            // Trailers end with an empty line, as a head does.
            let ended =
                rest.starts_with(b"\r\n") || rest.windows(4).any(|four| four == b"\r\n\r\n");
            return Ok(ended.then_some(body));
        }
        let size = usize::try_from(size)
            .ok()
            .filter(|&size| size <= SIZE_LIMIT)
            .ok_or(HttpError::TooLarge)?;
        let Some(chunk) = rest.get(..size) else {
            return Ok(None);
        };
        match rest.get(size..size + 2) {
            None => return Ok(None),
            Some(b"\r\n") => {}
            Some(_) => {
                return Err(HttpError::Malformed(
                    "a chunk is longer than its size says".to_owned(),
                ));
            }
        }
        body.extend_from_slice(chunk);
        rest = &rest[size + 2..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(future)
    }

    /// A server for one connection: reads up to the end of the head, answers in the given pieces,
    /// and gives back what it read. It then closes the connection, or keeps it open for ever.
    async fn serve(pieces: Vec<Vec<u8>>, close: bool) -> (SocketAddr, JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut read = Vec::new();
            while !read.windows(4).any(|four| four == b"\r\n\r\n") {
                stream.read_buf(&mut read).await.expect("a request");
            }
            for piece in pieces {
                // The client may have seen enough already.
                let _ = stream.write_all(&piece).await;
                tokio::task::yield_now().await;
            }
            if !close {
                std::future::pending::<()>().await;
            }
            read
        });
        (address, server)
    }

    fn whole(text: &str) -> Vec<Vec<u8>> {
        vec![text.as_bytes().to_vec()]
    }

    /// Each byte in a piece of its own: no split of the response may matter.
    fn bytewise(text: &str) -> Vec<Vec<u8>> {
        text.bytes().map(|byte| vec![byte]).collect()
    }

    #[test]
    fn bodies_are_read_by_length_by_chunks_and_to_the_end() {
        for (answer, close) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\na: b\r\n\r\n",
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                false,
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
                false,
            ),
            ("HTTP/1.0 200 OK\r\n\r\nhello", true),
        ] {
            for pieces in [whole(answer), bytewise(answer)] {
                let response = block_on(async {
                    let (address, _server) = serve(pieces, close).await;
                    get(address, "/metrics", &[]).await
                });
                let response = response.unwrap_or_else(|error| panic!("{answer:?}: {error}"));
                assert_eq!(
                    (response.status, response.text().as_str()),
                    (200, "hello"),
                    "{answer:?}"
                );
            }
        }
    }

    #[test]
    fn responses_without_a_body_do_not_wait_for_one() {
        block_on(async {
            let (address, _server) = serve(
                whole("HTTP/1.1 204 No Content\r\nx-a: 1\r\nX-A: 2\r\n\r\n"),
                false,
            )
            .await;
            let response = get(address, "/", &[]).await.expect("a response");
            assert_eq!(response.status, 204);
            assert_eq!(response.header("X-a"), Some("1"));
            assert_eq!(
                response.headers_named("x-a").collect::<Vec<_>>(),
                [b"1", b"2"]
            );

            let (address, _server) =
                serve(whole("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"), false).await;
            let response = request(address, "HEAD", "/", &[], b"").await;
            assert_eq!(response.expect("a response").body, b"");
        });
    }

    #[test]
    fn hostile_headers_and_raw_bytes_are_sent_as_they_are() {
        block_on(async {
            let answer = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            let hostile = b"a\x00b\xff\tc\r\nx-injected: yes";
            let (address, server) = serve(whole(answer), true).await;
            let response = get(address, "/", &[("x-request-id", hostile)]).await;
            assert_eq!(response.expect("a response").status, 400);
            let read = server.await.expect("the server ends");
            let sent = read.windows(hostile.len()).any(|window| window == hostile);
            assert!(sent, "{}", read.escape_ascii());

            let (address, server) = serve(whole(answer), true).await;
            let request = b"GET /\xfe\r\nNOT HTTP\r\n\r\n";
            assert_eq!(raw(address, request).await.expect("a response").status, 400);
            assert_eq!(server.await.expect("the server ends"), request);
        });
    }

    #[test]
    fn each_way_of_not_answering_has_its_error() {
        for (answer, close, part) in [
            ("", true, "before its response was complete (0 bytes came)"),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhell",
                true,
                "was complete (42 bytes",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
                false,
                "content length is `-1`",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
                false,
                "two different",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
                false,
                "larger than",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
                false,
                "without its size",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc\r\n",
                false,
                "longer than its size",
            ),
            ("220 mail.example ESMTP\r\n", false, "not HTTP/1.1"),
        ] {
            let error = block_on(async {
                let (address, _server) = serve(whole(answer), close).await;
                get(address, "/", &[]).await
            });
            let text = error.expect_err(answer).to_string();
            assert!(text.contains(part), "{answer:?}: {text}");
        }
    }

    #[test]
    fn a_flood_is_cut_off_at_the_limit() {
        block_on(async {
            let mut pieces = whole("HTTP/1.1 200 OK\r\n\r\n");
            pieces.extend(std::iter::repeat_n(vec![b'x'; 1 << 20], 10));
            let (address, _server) = serve(pieces, false).await;
            let error = get(address, "/", &[]).await.expect_err("a flood");
            assert!(matches!(error, HttpError::TooLarge), "{error}");
        });
    }

    #[test]
    fn a_server_that_stalls_and_a_clock_that_jumps_are_told_apart() {
        block_on(async {
            let (address, _server) = serve(whole("HTTP/1.1 200 OK\r\n"), false).await;
            let error = exchange(
                address,
                b"GET / HTTP/1.1\r\n\r\n",
                true,
                Duration::from_millis(50),
            )
            .await
            .expect_err("it stalls");
            assert!(
                matches!(error, HttpError::TimedOut { received: 17, .. }),
                "{error}"
            );
        });
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn a_paused_clock_is_named_as_the_cause() {
        crate::time::paused(async {
            let (address, _server) = serve(Vec::new(), false).await;
            let error = get(address, "/", &[])
                .await
                .expect_err("time runs out at once");
            assert!(matches!(error, HttpError::ClockPaused), "{error}");
        });
    }

    #[test]
    fn nobody_listening_is_an_error_with_the_address() {
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            drop(listener);
            let text = get(address, "/", &[])
                .await
                .expect_err("refused")
                .to_string();
            assert!(text.contains(&address.to_string()), "{text}");
        });
    }
}
