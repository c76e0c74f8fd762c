use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use backends::Postgres;

use crate::{or_not_run, say_not_run};

/// One statement by the simple query protocol; the text of every value of every row.
fn query(server: &Postgres, statement: &str) -> Vec<String> {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let message = |kind: &[u8], body: &[u8]| {
        let length = u32::try_from(body.len() + 4).unwrap();
        [kind, &length.to_be_bytes(), body].concat()
    };
    let hello = b"\x00\x03\x00\x00user\0postgres\0database\0postgres\0\0";
    stream.write_all(&message(b"", hello)).unwrap();
    let statement = [statement.as_bytes(), b"\0"].concat();
    stream.write_all(&message(b"Q", &statement)).unwrap();
    let mut values = Vec::new();
    let mut times_ready = 0;
    while times_ready < 2 {
        let mut head = [0; 5];
        stream.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        let mut body = vec![0; length - 4];
        stream.read_exact(&mut body).unwrap();
        match head[0] {
            b'Z' => times_ready += 1,
            b'E' => panic!("{}", String::from_utf8_lossy(&body)),
            b'D' => {
                let mut rest = &body[2..];
                while !rest.is_empty() {
                    let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
                    values.push(String::from_utf8(rest[4..4 + length].to_vec()).unwrap());
                    rest = &rest[4 + length..];
                }
            }
            _ => {}
        }
    }
    values
}

#[test]
fn rows_in_a_namespace_survive_a_kill_and_a_restart() {
    let Some(server) = or_not_run(Postgres::start()) else {
        return;
    };
    if server.pid().is_none() {
        say_not_run(&format!("{} is not a process of ours", server.url()));
        return;
    }
    // Without quotes: the namespace is an identifier as it stands.
    let table = format!("{}.kept", server.namespace());
    query(&server, &format!("create schema {}", server.namespace()));
    query(&server, &format!("create table {table} (value text)"));
    query(&server, &format!("insert into {table} values ('bar')"));
    let select = format!("select value from {table}");
    server.kill().unwrap();
    assert!(server.answers(Duration::from_millis(300)).is_err());
    server.restart().unwrap();
    assert_eq!(query(&server, &select), ["bar"]);
    // A second time, by a shutdown, while a session is open.
    let _session = TcpStream::connect(server.address()).unwrap();
    server.restart().unwrap();
    assert_eq!(query(&server, &select), ["bar"]);
}
