//! Loopback ports for private servers. Not for tests that can bind port 0 themselves: a server
//! in another process has to be told its port before it binds it.
//!
//! Two processes that lease at the same time must not get the same port, and the port has to stay
//! theirs while the server is down between a kill and a restart. So ports come in blocks of four:
//! the first of a block is bound and kept open by the lease, which makes it a lock that the kernel
//! releases whenever and however the process ends; the other three are the server's. The range
//! lies below the ephemeral ports of Linux (32768) and macOS (49152), so no outgoing connection
//! takes a port while its server restarts. Other software may still sit on any of them, hence the
//! probe here and the second attempt of whoever starts a server.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

const FIRST_PORT: u16 = 20_000;
const PORTS_PER_BLOCK: u16 = 4;
const BLOCKS: u16 = 3_000;

/// Three loopback ports that no other lease holds, in this process or in any other.
#[derive(Debug)]
pub(crate) struct PortBlock {
    guard: TcpListener,
    first: u16,
}

impl PortBlock {
    /// Leases a block whose ports are all free at this moment.
    ///
    /// # Errors
    /// When no block is free.
    pub(crate) fn lease() -> io::Result<Self> {
        let start = RandomState::new().hash_one("port block") % u64::from(BLOCKS);
        let start = u16::try_from(start).unwrap_or(0);
        let mut last_error = io::Error::from(io::ErrorKind::AddrInUse);
        for step in 0..BLOCKS {
            let block = (start + step) % BLOCKS;
            let base = FIRST_PORT + block * PORTS_PER_BLOCK;
            let leased = bind(base).and_then(|guard| {
                for port in base + 1..base + PORTS_PER_BLOCK {
                    bind(port)?;
                }
                Ok(guard)
            });
            match leased {
                Ok(guard) => {
                    return Ok(Self {
                        guard,
                        first: base + 1,
                    });
                }
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    /// The server's main port.
    pub(crate) fn main(&self) -> u16 {
        debug_assert!(self.guard.local_addr().is_ok());
        self.first
    }

    /// The port on which an etcd member talks to the others.
    pub(crate) fn peer(&self) -> u16 {
        self.first + 1
    }
}

fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn leases_held_at_once_never_share_a_port() {
        let blocks: Vec<_> = (0..50).map(|_| PortBlock::lease().unwrap()).collect();
        let ports: BTreeSet<u16> = blocks
            .iter()
            .flat_map(|block| [block.main(), block.peer()])
            .collect();
        assert_eq!(ports.len(), 100, "{ports:?}");
    }

    #[test]
    fn a_block_with_a_port_in_foreign_use_is_passed_over() {
        let probe = PortBlock::lease().unwrap();
        let foreign = bind(probe.peer()).unwrap();
        let taken = foreign.local_addr().unwrap().port();
        drop(probe);
        let blocks: Vec<_> = (0..BLOCKS - 400)
            .map_while(|_| PortBlock::lease().ok())
            .take(200)
            .collect();
        assert!(blocks.iter().all(|block| block.peer() != taken));
    }
}
