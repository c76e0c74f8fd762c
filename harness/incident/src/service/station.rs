//! A station: servers behind one queue, first come first served, and the integrals that
//! Little's law speaks of.

use std::collections::VecDeque;

/// Who waits: the index of a request or call, and its generation, which changes when it moves on.
pub(super) type Ticket = (u32, u32);

#[derive(Clone, Debug)]
pub(super) struct Station {
    pub(super) servers: u32,
    pub(super) busy: u32,
    waiting: VecDeque<Ticket>,
    /// Those in `waiting` that have not left; the others are passed over when their turn comes.
    pub(super) waiters: u32,
    changed: u64,
    pub(super) busy_micros: u64,
    pub(super) waiting_micros: u64,
}

impl Station {
    pub(super) fn new(servers: u32, now: u64) -> Self {
        Station {
            servers,
            busy: 0,
            waiting: VecDeque::new(),
            waiters: 0,
            changed: now,
            busy_micros: 0,
            waiting_micros: 0,
        }
    }

    /// Brings the integrals up to now. Whoever changes `busy` or `waiters` calls this before.
    pub(super) fn account(&mut self, now: u64) {
        let elapsed = now - self.changed;
        self.busy_micros += u64::from(self.busy) * elapsed;
        self.waiting_micros += u64::from(self.waiters) * elapsed;
        self.changed = now;
    }

    /// Takes a server if one is free.
    pub(super) fn occupy(&mut self, now: u64) -> bool {
        if self.busy >= self.servers {
            return false;
        }
        self.account(now);
        self.busy += 1;
        true
    }

    pub(super) fn wait(&mut self, now: u64, ticket: Ticket) {
        self.account(now);
        self.waiters += 1;
        self.waiting.push_back(ticket);
    }

    /// Somebody who waited has left; the ticket stays behind and is passed over.
    pub(super) fn forsake(&mut self, now: u64) {
        self.account(now);
        self.waiters -= 1;
    }

    /// Gives a server back, to the first of those who still wait, if there is one.
    pub(super) fn release(&mut self, now: u64, waits: impl Fn(Ticket) -> bool) -> Option<Ticket> {
        self.account(now);
        self.busy -= 1;
        self.admit(waits)
    }

    /// Gives a free server to the first of those who wait.
    pub(super) fn admit(&mut self, waits: impl Fn(Ticket) -> bool) -> Option<Ticket> {
        if self.busy >= self.servers {
            return None;
        }
        while let Some(ticket) = self.waiting.pop_front() {
            if waits(ticket) {
                self.waiters -= 1;
                self.busy += 1;
                return Some(ticket);
            }
        }
        None
    }
}
