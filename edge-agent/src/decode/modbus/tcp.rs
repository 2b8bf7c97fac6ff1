//! Modbus TCP: the same maps, framed by a header with a length instead of a checksum.
//!
//! Both directions may be in one capture: a header whose transaction was asked before is the reply.

use std::{collections::VecDeque, sync::Arc};

use super::{
    super::{
        Decoded,
        stream::{Cut, Fault, Step},
    },
    Asked, Map, Request,
};

const HEADER: usize = 6;
/// Longest body: unit and PDU.
const MAX_BODY: usize = 254;
/// Requests under way on one connection; the oldest is forgotten.
const MAX_ASKED: usize = 64;

/// The format.
#[derive(Debug)]
pub(crate) struct Tcp {
    map: Arc<Map>,
    asked: VecDeque<(u16, Asked)>,
}

impl Tcp {
    pub(crate) fn new(map: Arc<Map>) -> Self {
        Self {
            map,
            asked: VecDeque::new(),
        }
    }
}

impl Cut for Tcp {
    fn next(&mut self, held: &[u8], end: bool, out: &mut Vec<Decoded>) -> Step {
        let short = |len| match end {
            true => Step::Reject(len, Fault::Truncated),
            false => Step::Wait,
        };
        let &[t0, t1, p0, p1, l0, l1, ..] = held else {
            return short(held.len());
        };
        let transaction = u16::from_be_bytes([t0, t1]);
        let body = usize::from(u16::from_be_bytes([l0, l1]));
        if (p0, p1) != (0, 0) || !(2..=MAX_BODY).contains(&body) {
            return Step::Noise(1);
        }
        let len = HEADER + body;
        let Some(body) = held.get(HEADER..len) else {
            return short(1);
        };
        let (unit, function) = (body[0], body[1]);
        if let Some(at) = self.asked.iter().position(|(of, _)| *of == transaction) {
            let Some((_, asked)) = self.asked.remove(at) else {
                return Step::Take(len);
            };
            return match asked.reply(body, &self.map) {
                Ok(decoded) => {
                    out.push(decoded);
                    Step::Take(len)
                }
                Err(fault) => Step::Reject(len, fault),
            };
        }
        match Request::parse(&body[1..]) {
            Some(request) if body.len() == 6 => {
                if self.asked.len() == MAX_ASKED {
                    self.asked.pop_front();
                }
                self.asked.push_back((transaction, Asked { unit, request }));
                Step::Take(len)
            }
            // Writes, of which nothing is read.
            _ if matches!(function, 5..=24 | 43) => Step::Take(len),
            _ => Step::Reject(len, Fault::NoRequest { unit, function }),
        }
    }
}
