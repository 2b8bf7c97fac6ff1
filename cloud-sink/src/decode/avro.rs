//! Avro by the schema of whoever wrote it.
//!
//! The schema is read by `apache-avro`, then laid out flat ([`plan`]) once; the bytes are read here, by
//! that plan, for three reasons: the library takes a body that ends early for one that ends in nulls, so
//! that half a reading would look like a whole one; it follows a schema that contains itself as deep as
//! the bytes lead it, to the end of the stack; and it makes room for as many elements as a count claims.
//! Here a body ends where its schema ends, to the byte; depth and members are bounded; nothing is copied
//! before it is there. The tests let the library write what is read here.

mod plan;

use std::borrow::Cow;

use protocol::Timestamp;

pub use plan::Plan;

use super::member::{Member, Members};
use plan::Node;

/// Objects in objects, and a schema's own nesting of them.
const MAX_DEPTH: usize = 16;
/// Members of a whole record: more than a topic may declare.
const MAX_MEMBERS: usize = 4096;

/// Reads a whole body.
///
/// # Errors
/// Where it is not what its schema promises, in one line.
pub fn read<'a>(plan: &'a Plan, body: &'a [u8]) -> Result<Members<'a>, String> {
    let mut reader = Reader {
        plan,
        rest: body,
        members: 0,
    };
    let read = reader.member(plan.root, 0);
    let at = body.len() - reader.rest.len();
    match read {
        Err(error) => Err(format!("avro: {error} at byte {at}")),
        Ok(_) if !reader.rest.is_empty() => Err(format!(
            "avro: {} bytes left over at byte {at}",
            reader.rest.len()
        )),
        Ok(Member::Object(members)) => Ok(members),
        Ok(_) => Err("avro: the schema is not that of a record".into()),
    }
}

struct Reader<'a> {
    plan: &'a Plan,
    rest: &'a [u8],
    members: usize,
}

impl<'a> Reader<'a> {
    fn member(&mut self, node: usize, depth: usize) -> Result<Member<'a>, String> {
        if depth > MAX_DEPTH {
            return Err(format!("objects nested deeper than {MAX_DEPTH}"));
        }
        let plan = self.plan;
        Ok(match plan.node(node) {
            Node::Null => Member::Null,
            Node::Boolean => match self.take(1)? {
                [0] => Member::Bool(false),
                [1] => Member::Bool(true),
                _ => return Err("a boolean that is neither 0 nor 1".into()),
            },
            Node::Int => Member::Int(self.int()?.into()),
            Node::Long => Member::Int(self.long()?),
            Node::Float => Member::Float(f32::from_le_bytes(self.array()?).into()),
            Node::Double => Member::Float(f64::from_le_bytes(self.array()?)),
            Node::String => Member::Text(Cow::Borrowed(self.text()?)),
            Node::Bytes => {
                self.counted()?;
                Member::Unfit("bytes")
            }
            Node::Fixed(size) => {
                self.take(*size)?;
                Member::Unfit("bytes")
            }
            Node::Decimal { size, scale } => {
                let digits = match size {
                    Some(size) => self.take(*size)?,
                    None => self.counted()?,
                };
                decimal(digits, *scale)
            }
            Node::Date => {
                let day = i64::from(self.int()?) * 86_400_000_000;
                let text = moment(Some(day))?.to_string();
                Member::Text(text.split('T').next().unwrap_or_default().to_owned().into())
            }
            Node::Timestamp(per_second) => Member::Time(self.timestamp(*per_second)?),
            Node::LocalTimestamp(per_second) => {
                let text = self.timestamp(*per_second)?.to_string();
                Member::Text(text.trim_end_matches('Z').to_owned().into())
            }
            Node::Enum(symbols) => {
                let index = self.int()?;
                let symbol = usize::try_from(index).ok().and_then(|at| symbols.get(at));
                match symbol {
                    Some(symbol) => Member::Text(Cow::Borrowed(symbol)),
                    None => return Err(format!("symbol {index} of {}", symbols.len())),
                }
            }
            Node::Union(branches) => {
                let index = self.long()?;
                let branch = usize::try_from(index).ok().and_then(|at| branches.get(at));
                match branch {
                    // A union holds no union, so this ends; but it costs no depth.
                    Some(branch) => self.member(*branch, depth)?,
                    None => return Err(format!("branch {index} of {}", branches.len())),
                }
            }
            Node::Record(fields) => {
                let mut members = Vec::with_capacity(fields.len().min(MAX_MEMBERS));
                for (name, node) in fields {
                    self.count()?;
                    members.push((Cow::Borrowed(&**name), self.member(*node, depth + 1)?));
                }
                Member::Object(members)
            }
            Node::Map(values) => Member::Object(self.map(*values, depth)?),
            // Nothing behind it can be read without it, and no reading holds one.
            Node::Array => return Err("an array, which no reading holds,".into()),
        })
    }

    fn map(&mut self, values: usize, depth: usize) -> Result<Members<'a>, String> {
        let mut members = Members::new();
        loop {
            let entries = match self.long()? {
                0 => return Ok(members),
                // A block that tells its bytes as well.
                count @ ..0 => {
                    self.long()?;
                    count.unsigned_abs()
                }
                count => count.unsigned_abs(),
            };
            for _ in 0..entries {
                self.count()?;
                let name = Cow::Borrowed(self.text()?);
                members.push((name, self.member(values, depth + 1)?));
            }
        }
    }

    fn count(&mut self) -> Result<(), String> {
        self.members += 1;
        if self.members > MAX_MEMBERS {
            return Err(format!("more than {MAX_MEMBERS} members"));
        }
        Ok(())
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], String> {
        let Some((taken, rest)) = self.rest.split_at_checked(size) else {
            let left = self.rest.len();
            return Err(format!("{size} bytes expected, {left} are left"));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn counted(&mut self) -> Result<&'a [u8], String> {
        let size = self.long()?;
        match usize::try_from(size) {
            Ok(size) => self.take(size),
            Err(_) => Err(format!("a length of {size}")),
        }
    }

    fn text(&mut self) -> Result<&'a str, String> {
        std::str::from_utf8(self.counted()?).map_err(|_| "a text that is not UTF-8".into())
    }

    fn int(&mut self) -> Result<i32, String> {
        let number = self.long()?;
        i32::try_from(number).map_err(|_| format!("an int of {number}"))
    }

    fn long(&mut self) -> Result<i64, String> {
        let mut zigzag = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has one bit left.
            if shift == 63 && bits > 1 {
                break;
            }
            zigzag |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed());
            }
        }
        Err("an integer beyond 64 bits".into())
    }

    fn timestamp(&mut self, per_second: i64) -> Result<Timestamp, String> {
        let count = self.long()?;
        moment(match per_second {
            1000 => count.checked_mul(1000),
            1_000_000 => Some(count),
            _ => Some(count.div_euclid(1000)),
        })
    }
}

fn moment(micros: Option<i64>) -> Result<Timestamp, String> {
    let time = micros.and_then(|micros| Timestamp::from_micros(micros).ok());
    time.ok_or_else(|| "a time outside the calendar".into())
}

/// The nearest float: big-endian, two's complement, with a decimal point `scale` digits from the right.
fn decimal(digits: &[u8], scale: usize) -> Member<'static> {
    let negative = digits.first().is_some_and(|byte| byte & 0x80 != 0);
    let mut whole = [if negative { 0xff } else { 0 }; 16];
    let Some(start) = whole.len().checked_sub(digits.len()) else {
        return Member::Unfit("a decimal beyond 128 bits");
    };
    whole[start..].copy_from_slice(digits);
    match format!("{}e-{scale}", i128::from_be_bytes(whole)).parse() {
        Ok(number) => Member::Float(number),
        Err(_) => Member::Unfit("a decimal"),
    }
}
