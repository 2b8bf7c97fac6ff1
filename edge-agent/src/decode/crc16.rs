//! CRC-16 with the polynomial 0x8005, reflected: Modbus starts from 0xffff, DSMR (CRC-16/ARC) from 0.

const TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut at: u16 = 0;
    while at < 256 {
        let mut crc = at;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 0 {
                crc >> 1
            } else {
                (crc >> 1) ^ 0xa001
            };
            bit += 1;
        }
        table[at as usize] = crc;
        at += 1;
    }
    table
}

/// The checksum of `bytes`, starting from `from`.
pub(crate) fn crc16(from: u16, bytes: impl IntoIterator<Item = u8>) -> u16 {
    bytes.into_iter().fold(from, |crc, byte| {
        let [low, _] = crc.to_le_bytes();
        (crc >> 8) ^ TABLE[usize::from(low ^ byte)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_values_of_the_catalogue_come_out() {
        // reveng.sourceforge.io/crc-catalogue: check of "123456789".
        assert_eq!(crc16(0xffff, *b"123456789"), 0x4b37);
        assert_eq!(crc16(0, *b"123456789"), 0xbb3d);
    }
}
