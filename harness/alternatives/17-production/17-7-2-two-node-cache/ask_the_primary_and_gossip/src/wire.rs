//! What the nodes say to each other: JSON in frames, each behind its length in four bytes.

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::state::{Entries, Entry, SessionId, Version};

/// No frame is longer, in bytes: what claims to be is no frame of ours.
const LONGEST_FRAME: u32 = 64 << 20;

#[derive(Debug, Deserialize, Serialize)]
pub enum Request {
    /// Are you there, and are we together?
    Heartbeat { session: Option<SessionId> },
    /// Here is all that I have: let us begin this session.
    Join {
        session: SessionId,
        entries: Entries,
    },
    /// Hold this, and do not answer reads of the key without asking me.
    Prepare {
        session: SessionId,
        key: String,
        entry: Entry,
    },
    /// This has happened.
    Commit {
        session: SessionId,
        key: String,
        entry: Entry,
    },
    /// What does this key hold, and what has become of these writes?
    Resolve {
        session: SessionId,
        key: String,
        versions: Vec<Version>,
    },
    /// A client of mine writes.
    Write {
        session: SessionId,
        key: String,
        value: Option<String>,
    },
    /// All that I have.
    Spread { entries: Entries },
}

#[derive(Debug, Deserialize, Serialize)]
pub enum Reply {
    Alive {
        together: bool,
    },
    Joined {
        entries: Entries,
        marks: Entries,
    },
    /// The request belongs to a session that is over, or was never known here.
    NotTogether,
    Prepared,
    Resolved {
        entry: Option<Entry>,
        undecided: Vec<Version>,
    },
    Written,
    Unknown,
    Done,
}

/// Writes one frame.
///
/// # Errors
/// If the stream fails, or the message is longer than a frame can be.
pub async fn send<M: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &M,
) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|&length| length <= LONGEST_FRAME)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the message is too long"))?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend(body);
    stream.write_all(&frame).await?;
    stream.flush().await
}

/// Reads one frame.
///
/// # Errors
/// If the stream ends or fails, or what arrives is no message.
pub async fn receive<M: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<M> {
    let length = stream.read_u32().await?;
    if length > LONGEST_FRAME {
        let what = format!("a frame of {length} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await?;
    Ok(serde_json::from_slice(&body)?)
}
