//! The smallest clients that can tell "the port is open" from "the server answers its own
//! protocol". Not clients for anything else: a lab that talks to a server brings a real one.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// The longest answer that is read, in bytes. More means that it is not the server we think.
const ANSWER_LIMIT: u64 = 16 << 20;

/// An HTTP answer: status code and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code, 100 to 599.
    pub status: u16,
    /// The body, with invalid UTF-8 replaced.
    pub body: String,
}

impl Answer {
    /// Whether the status is between 200 and 299.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

fn connect(address: &str, patience: Duration) -> io::Result<TcpStream> {
    let mut last_error = io::Error::new(
        io::ErrorKind::AddrNotAvailable,
        format!("{address} has no address"),
    );
    for socket in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&socket, patience) {
            Ok(stream) => {
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

/// Only that somebody accepts connections: all that can be seen of a server behind TLS.
pub(crate) fn accepts(address: &str, patience: Duration) -> Result<(), String> {
    connect(address, patience)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// One HTTP request. It speaks version 1.0, so that the end of the connection is the end of the
/// body and no chunked coding has to be understood.
pub(crate) fn http(
    address: &str,
    method: &str,
    path: &str,
    content: Option<(&str, &[u8])>,
    patience: Duration,
) -> io::Result<Answer> {
    let mut stream = connect(address, patience)?;
    exchange(&mut stream, address, method, path, content)
}

pub(crate) fn exchange(
    stream: &mut (impl Read + Write),
    host: &str,
    method: &str,
    path: &str,
    content: Option<(&str, &[u8])>,
) -> io::Result<Answer> {
    let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\n").into_bytes();
    if let Some((kind, body)) = content {
        write!(
            request,
            "Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )?;
        request.extend_from_slice(body);
    } else {
        request.extend_from_slice(b"\r\n");
    }
    stream.write_all(&request)?;
    let mut raw = Vec::new();
    stream.take(ANSWER_LIMIT).read_to_end(&mut raw)?;
    parse_http(&raw).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{host} does not answer in HTTP: {:?}",
                String::from_utf8_lossy(&raw[..raw.len().min(60)])
            ),
        )
    })
}

fn parse_http(raw: &[u8]) -> Option<Answer> {
    let head_ends = raw.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&raw[..head_ends]).ok()?;
    let status = head
        .strip_prefix("HTTP/1.")?
        .split_ascii_whitespace()
        .nth(1)?
        .parse()
        .ok()?;
    Some(Answer {
        status,
        body: String::from_utf8_lossy(&raw[head_ends + 4..]).into_owned(),
    })
}

/// Ready means any success; the text of another answer says what is still missing.
pub(crate) fn http_ready(address: &str, path: &str, patience: Duration) -> Result<(), String> {
    match http(address, "GET", path, None, patience) {
        Ok(answer) if answer.is_success() => Ok(()),
        Ok(answer) => Err(format!(
            "{path} answers {}: {}",
            answer.status,
            answer.body.trim()
        )),
        Err(error) => Err(format!("{path}: {error}")),
    }
}

/// etcd is healthy when it has a leader; `/health` then says `{"health":"true"}`.
pub(crate) fn etcd(address: &str, patience: Duration) -> Result<(), String> {
    let answer = http(address, "GET", "/health", None, patience)
        .map_err(|error| format!("/health: {error}"))?;
    let compact: String = answer.body.split_whitespace().collect();
    if answer.is_success() && compact.contains(r#""health":"true""#) {
        Ok(())
    } else {
        Err(format!(
            "/health answers {}: {}",
            answer.status,
            answer.body.trim()
        ))
    }
}

/// A server that asks for a password answers its own protocol too.
pub(crate) fn redis(address: &str, patience: Duration) -> Result<(), String> {
    let reply =
        redis_command(address, &["PING"], patience).map_err(|error| format!("PING: {error}"))?;
    if reply == "+PONG" || reply.starts_with("-NOAUTH") {
        Ok(())
    } else {
        Err(format!("PING is answered by {reply:?}"))
    }
}

/// Sends one command and returns the first line of the reply, with its type byte.
pub(crate) fn redis_command(
    address: &str,
    words: &[&str],
    patience: Duration,
) -> io::Result<String> {
    let mut stream = connect(address, patience)?;
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        write!(request, "${}\r\n{word}\r\n", word.len())?;
    }
    stream.write_all(&request)?;
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < 512 && stream.read(&mut byte)? == 1 && byte != *b"\n" {
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// Says hello as `user` and waits for either "ready for query" or a request for a password.
///
/// The messages are those of the frontend/backend protocol, version 3.0 (chapter "Message
/// Formats" of PostgreSQL's manual): a type byte, a length that counts itself, a body.
pub(crate) fn postgres(address: &str, patience: Duration) -> Result<(), String> {
    let mut stream = connect(address, patience).map_err(|error| error.to_string())?;
    let body = b"\x00\x03\x00\x00user\0postgres\0database\0postgres\0\0";
    let length = u32::try_from(body.len() + 4).expect("the body is a constant");
    let mut hello = length.to_be_bytes().to_vec();
    hello.extend_from_slice(body);
    stream
        .write_all(&hello)
        .map_err(|error| format!("startup packet: {error}"))?;
    loop {
        let mut head = [0; 5];
        stream
            .read_exact(&mut head)
            .map_err(|error| format!("startup packet: {error}"))?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        if !(4..=65_536).contains(&length) {
            return Err("it does not speak PostgreSQL's protocol".to_owned());
        }
        let mut body = vec![0; length as usize - 4];
        stream
            .read_exact(&mut body)
            .map_err(|error| format!("startup packet: {error}"))?;
        match head[0] {
            b'Z' => {
                // Terminate, so that the server does not log a lost connection.
                let _ = stream.write_all(b"X\x00\x00\x00\x04");
                return Ok(());
            }
            b'R' if body.get(..4) != Some(&[0, 0, 0, 0]) => return Ok(()),
            b'E' => {
                let fields: Vec<_> = body
                    .split(|byte| *byte == 0)
                    .map(String::from_utf8_lossy)
                    .collect();
                let field = |kind: char| {
                    fields
                        .iter()
                        .find_map(|field| field.strip_prefix(kind))
                        .unwrap_or_default()
                        .to_owned()
                };
                // Classes 28 and 3D: who we are or what we ask for is refused, by a server that
                // is up. A shared server need not have a user or a database `postgres`.
                let state = field('C');
                if state.starts_with("28") || state.starts_with("3D") {
                    return Ok(());
                }
                return Err(format!("{} ({state})", field('M')));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_answer_is_read_by_its_status_line_and_its_body() {
        let raw = b"HTTP/1.0 503 Service Unavailable\r\nA: b\r\n\r\nnot yet\n";
        assert_eq!(
            parse_http(raw),
            Some(Answer {
                status: 503,
                body: "not yet\n".to_owned()
            })
        );
        assert_eq!(parse_http(b"-ERR unknown command\r\n\r\n"), None);
    }
}
