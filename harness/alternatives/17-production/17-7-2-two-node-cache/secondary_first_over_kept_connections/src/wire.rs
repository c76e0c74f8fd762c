//! What the nodes say to each other: JSON in frames, each behind its length in four bytes.

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// No frame is longer, in bytes: what claims to be is no frame of ours.
const LONGEST_FRAME: u32 = 64 << 20;

pub type Life = u64;
pub type Session = u64;

/// Which write of a key is the newer one: counter, node, life of that node.
pub type Version = (u64, u8, Life);

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Entry {
    pub version: Version,
    /// `None`: removed.
    pub value: Option<String>,
}

pub type Entries = Vec<(String, Entry)>;

#[derive(Debug, Deserialize, Serialize)]
pub enum Request {
    Heartbeat,
    /// From the one that orders writes: hold this.
    Write {
        session: Session,
        key: String,
        entry: Entry,
    },
    /// From the one that orders writes: what do you hold?
    Read {
        session: Session,
        key: String,
    },
    /// To the one that orders writes.
    Forward {
        key: String,
        value: Option<String>,
    },
    /// Leave every session, expect this one, and say what you hold.
    Pull {
        life: Life,
        session: Session,
    },
    /// Hold exactly this, and be in the session that you expect.
    Push {
        session: Session,
        counter: u64,
        entries: Entries,
    },
    /// Eventual: a write.
    Spread {
        life: Life,
        key: String,
        entry: Entry,
    },
    /// Eventual: all that I hold.
    Merge {
        life: Life,
        entries: Entries,
    },
}

#[derive(Debug, Deserialize, Serialize)]
pub enum Reply {
    Alive {
        life: Life,
        session: Option<Session>,
        counter: u64,
        misses_you: bool,
    },
    Done,
    No,
    Unknown,
    Value(Option<String>),
    Holds(Entries),
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
