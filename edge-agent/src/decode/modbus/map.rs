//! Which registers mean what.

use protocol::{FieldName, Value};

use super::super::{Problem, values::Values};

/// The four address spaces; each has its function for reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Space {
    /// Bits that can be written, function 1.
    Coil,
    /// Bits that can be read, function 2.
    Discrete,
    /// Registers that can be written, function 3.
    Holding,
    /// Registers that can be read, function 4.
    Input,
}

/// A request to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Where.
    pub space: Space,
    /// The first register or bit.
    pub first: u16,
    /// How many, at least 1.
    pub count: u16,
}

impl Request {
    /// Takes function, address and count.
    #[must_use]
    pub fn parse(pdu: &[u8]) -> Option<Self> {
        let &[function, a0, a1, c0, c1] = pdu else {
            return None;
        };
        let space = match function {
            1 => Space::Coil,
            2 => Space::Discrete,
            3 => Space::Holding,
            4 => Space::Input,
            _ => return None,
        };
        Some(Self {
            space,
            first: u16::from_be_bytes([a0, a1]),
            count: u16::from_be_bytes([c0, c1]),
        })
    }

    /// The bytes behind the unit.
    #[must_use]
    pub fn pdu(&self) -> [u8; 5] {
        let ([a0, a1], [c0, c1]) = (self.first.to_be_bytes(), self.count.to_be_bytes());
        [self.function(), a0, a1, c0, c1]
    }

    /// The function that reads this space.
    #[must_use]
    pub fn function(&self) -> u8 {
        match self.space {
            Space::Coil => 1,
            Space::Discrete => 2,
            Space::Holding => 3,
            Space::Input => 4,
        }
    }

    /// How many bytes of data a right reply has.
    #[must_use]
    pub fn reply_bytes(&self) -> usize {
        match self.space {
            Space::Coil | Space::Discrete => usize::from(self.count).div_ceil(8),
            Space::Holding | Space::Input => usize::from(self.count) * 2,
        }
    }
}

/// How a value is stored; Telegraf's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A bit of a bit space, or of a register (0 is the lowest).
    Bool(u8),
    /// Signed, one register.
    Int16,
    /// Unsigned, one register.
    Uint16,
    /// Signed, two registers.
    Int32,
    /// Unsigned, two registers.
    Uint32,
    /// Signed, four registers.
    Int64,
    /// Unsigned, four registers.
    Uint64,
    /// IEEE 754, two registers.
    Float32,
    /// IEEE 754, four registers.
    Float64,
    /// Four decimal digits a register.
    Bcd(u16),
    /// Text, two characters a register, ended by NUL or blanks.
    Text(u16),
}

impl Kind {
    /// How many registers (or bits of a bit space) it takes.
    #[must_use]
    pub fn width(self) -> u16 {
        match self {
            Self::Bool(_) | Self::Int16 | Self::Uint16 => 1,
            Self::Int32 | Self::Uint32 | Self::Float32 => 2,
            Self::Int64 | Self::Uint64 | Self::Float64 => 4,
            Self::Bcd(registers) | Self::Text(registers) => registers,
        }
    }
}

/// In which order the bytes of a value come; A is the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
pub enum Order {
    /// Big-endian, as Modbus means it.
    #[default]
    #[serde(alias = "AB", alias = "ABCDEFGH")]
    ABCD,
    /// Little-endian throughout.
    #[serde(alias = "BA", alias = "HGFEDCBA")]
    DCBA,
    /// Bytes swapped within each register.
    #[serde(alias = "BADCFEHG")]
    BADC,
    /// Registers in reverse order.
    #[serde(alias = "GHEFCDAB")]
    CDAB,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its canonical name.
    pub name: FieldName,
    /// Where.
    pub space: Space,
    /// The first register or bit, counted from 0 as on the wire.
    pub address: u16,
    /// How it is stored.
    pub kind: Kind,
    /// In which order.
    pub order: Order,
    /// What one step is worth in the unit of the name.
    pub scale: Scale,
    /// Added after scaling.
    pub offset: f64,
    /// The bits that say "not available", as an unsigned number.
    pub absent: Option<u64>,
    /// Whether to ask for it; a value that some firmware has elsewhere is only understood.
    pub poll: bool,
}

/// A factor, kept so that a tenth is a division by ten, which rounds once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// Multiply.
    Times(f64),
    /// Divide.
    Over(f64),
}

impl From<f64> for Scale {
    fn from(factor: f64) -> Self {
        let inverse = (1.0 / factor).round();
        if factor.abs() < 1.0 && 1.0 / inverse == factor {
            Self::Over(inverse)
        } else {
            Self::Times(factor)
        }
    }
}

impl Scale {
    fn apply(self, number: f64) -> f64 {
        match self {
            Self::Times(factor) => number * factor,
            Self::Over(divisor) => number / divisor,
        }
    }
}

/// All values of one kind of device.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// Names the device, with its unit, where the configuration does not.
    pub name: String,
    /// Whether input registers are the holding registers under another function.
    pub either: bool,
    /// Registers that may be read and left, to join two neighbours.
    pub gap: u16,
    /// Most registers in one request.
    pub most: u16,
    /// In the order of space and address.
    pub points: Vec<Point>,
}

impl Map {
    /// Reads the values a reply holds. A value that is only partly in it is none.
    pub(crate) fn read(&self, request: Request, data: &[u8], values: &mut Values) {
        let space = match request.space {
            Space::Holding | Space::Input if self.either => self.registers(),
            space => space,
        };
        let first = self
            .points
            .partition_point(|point| (point.space, point.address) < (space, request.first));
        for point in &self.points[first..] {
            let from = usize::from(point.address.wrapping_sub(request.first));
            let to = from + usize::from(point.kind.width());
            if point.space != space || from >= usize::from(request.count) {
                break;
            }
            if to > usize::from(request.count) {
                continue;
            }
            match request.space {
                Space::Coil | Space::Discrete => {
                    if let Some(byte) = data.get(from / 8) {
                        values.flag(point.name.as_str(), byte >> (from % 8) & 1 == 1);
                    }
                }
                Space::Holding | Space::Input => {
                    if let Some(bytes) = data.get(from * 2..to * 2) {
                        point.read(bytes, values);
                    }
                }
            }
        }
    }

    fn registers(&self) -> Space {
        let holding = |point: &Point| point.space == Space::Holding;
        match self.points.iter().any(holding) {
            true => Space::Holding,
            false => Space::Input,
        }
    }

    /// The requests that read everything: neighbours joined while they are at most [`Map::gap`] registers
    /// apart and the request stays within [`Map::most`].
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        let mut requests: Vec<Request> = Vec::new();
        for point in self.points.iter().filter(|point| point.poll) {
            let (from, width) = (u32::from(point.address), u32::from(point.kind.width()));
            if let Some(last) = requests.last_mut()
                && last.space == point.space
            {
                let end = u32::from(last.first) + u32::from(last.count);
                let count = (from + width).max(end) - u32::from(last.first);
                if from <= end + u32::from(self.gap) && count <= u32::from(self.most) {
                    last.count = u16::try_from(count).unwrap_or(u16::MAX);
                    continue;
                }
            }
            requests.push(Request {
                space: point.space,
                first: point.address,
                count: point.kind.width(),
            });
        }
        requests
    }
}

impl Point {
    fn read(&self, registers: &[u8], values: &mut Values) {
        let name = self.name.as_str();
        let bytes = in_order(registers, self.order);
        if let Kind::Text(_) = self.kind {
            let text = String::from_utf8_lossy(&bytes);
            let text = text.split('\0').next().unwrap_or("").trim();
            if !text.is_empty() {
                values.text(name, text);
            }
            return;
        }
        let bits = bytes
            .iter()
            .take(8)
            .fold(0u64, |bits, &byte| bits << 8 | u64::from(byte));
        if self.absent == Some(bits) {
            return;
        }
        match self.number(bits, &bytes) {
            Ok(Value::Float(number)) => {
                values.float(name, self.scale.apply(number) + self.offset);
            }
            Ok(value) => values.put(name, value),
            Err(problem) => values.reject(name, problem),
        }
    }

    fn number(&self, bits: u64, bytes: &[u8]) -> Result<Value, Problem> {
        let [a, b, c, d, e, f, g, h] = bits.to_be_bytes();
        let number = match self.kind {
            Kind::Bool(bit) => return Ok(Value::Bool(bits >> bit & 1 == 1)),
            Kind::Int16 => f64::from(i16::from_be_bytes([g, h])),
            Kind::Uint16 => f64::from(u16::from_be_bytes([g, h])),
            Kind::Int32 => f64::from(i32::from_be_bytes([e, f, g, h])),
            Kind::Uint32 => f64::from(u32::from_be_bytes([e, f, g, h])),
            Kind::Int64 => exact(i128::from(i64::from_be_bytes([a, b, c, d, e, f, g, h])))?,
            Kind::Uint64 => exact(i128::from(bits))?,
            Kind::Float32 => shortest(f32::from_be_bytes([e, f, g, h])),
            Kind::Float64 => f64::from_bits(bits),
            Kind::Bcd(_) => {
                let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                exact(digits.parse().map_err(|_| Problem::NoNumber)?)?
            }
            Kind::Text(_) => return Err(Problem::NoNumber),
        };
        Ok(Value::Float(number))
    }
}

/// From here on a whole number may not be exact as a float.
const EXACT_BELOW: i128 = 1 << 53;

fn exact(number: i128) -> Result<f64, Problem> {
    if number.abs() >= EXACT_BELOW {
        return Err(Problem::TooManyDigits);
    }
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    Ok(number as f64)
}

/// The number a 32-bit float was meant to be: 230.2, not 230.1999969482422. Both are the same 32-bit
/// float; the first is what the meter shows.
fn shortest(float: f32) -> f64 {
    format!("{float:e}")
        .parse()
        .unwrap_or_else(|_| f64::from(float))
}

fn in_order(registers: &[u8], order: Order) -> Vec<u8> {
    let mut bytes = registers.to_vec();
    if matches!(order, Order::BADC | Order::DCBA) {
        bytes.chunks_exact_mut(2).for_each(<[u8]>::reverse);
    }
    if matches!(order, Order::CDAB | Order::DCBA) {
        bytes.reverse();
        bytes.chunks_exact_mut(2).for_each(<[u8]>::reverse);
    }
    bytes
}
