//! The header of an `.npy` array (NEP 1, versions 1 to 3).

use std::io::{self, Read};

use py_literal::Value;

use crate::Reason;
use crate::element::Element;
use crate::header::{Header, Order};

/// The first bytes of every `.npy` file.
pub(crate) const MAGIC: &[u8] = b"\x93NUMPY";

/// Most bytes of a header; `NumPy` has the same limit.
///
/// Headers of plain arrays have about a hundred bytes. For a list of 64 KiB in four brackets the
/// parser would take seconds.
const MAX_HEADER_BYTES: u32 = 10_000;

/// Deepest nesting of brackets in a header: a tuple in a dictionary takes two, records take four.
///
/// The time that the parser takes grows exponentially with the depth.
const MAX_DEPTH: usize = 4;

/// Reads the header of an array, and leaves the reader at the first number.
pub(crate) fn read_header(reader: &mut impl Read) -> Result<Header, Reason> {
    let start: [u8; 8] = array(reader)?;
    let [.., major, minor] = start;
    if &start[..6] != MAGIC {
        return Err(invalid("does not start as such"));
    }
    let (size, preamble) = match (major, minor) {
        (1, 0) => (u32::from(u16::from_le_bytes(array(reader)?)), 10),
        (2 | 3, 0) => (u32::from_le_bytes(array(reader)?), 12),
        _ => {
            let text = format!("has version {major}.{minor}, expected 1.0, 2.0 or 3.0");
            return Err(Reason::Header(text));
        }
    };
    if size > MAX_HEADER_BYTES {
        let text = format!("is {size} bytes long, expected at most {MAX_HEADER_BYTES}");
        return Err(Reason::Header(text));
    }
    let mut text = vec![0; size as usize];
    fill(reader, &mut text)?;
    let text = std::str::from_utf8(&text).map_err(|_| invalid("is not UTF-8"))?;
    let header = parse(text)?;
    Ok(Header { len: u64::from(preamble + size), ..header })
}

fn parse(text: &str) -> Result<Header, Reason> {
    let deepest = text.bytes().scan(0_usize, |depth, byte| {
        match byte {
            b'(' | b'[' | b'{' => *depth += 1,
            b')' | b']' | b'}' => *depth = depth.saturating_sub(1),
            _ => {}
        }
        Some(*depth)
    });
    if deepest.max().unwrap_or(0) > MAX_DEPTH {
        return Err(invalid("is nested too deeply"));
    }
    let Ok(Value::Dict(entries)) = text.trim_end_matches('\n').parse::<Value>() else {
        return Err(invalid("is not a Python dictionary"));
    };
    let (mut descr, mut order, mut shape) = (None, None, None);
    for (key, value) in entries {
        let slot = match &key {
            Value::String(key) if key == "descr" => &mut descr,
            Value::String(key) if key == "fortran_order" => &mut order,
            Value::String(key) if key == "shape" => &mut shape,
            _ => return Err(invalid("has a key other than descr, fortran_order and shape")),
        };
        if slot.replace(value).is_some() {
            return Err(invalid("has a key twice"));
        }
    }
    let (Some(descr), Some(order), Some(shape)) = (descr, order, shape) else {
        return Err(invalid("lacks one of descr, fortran_order and shape"));
    };
    let (element, endianness) = match descr {
        Value::String(descr) => Element::from_descr(&descr)?,
        Value::List(_) => {
            let what = "records with named fields".to_owned();
            let remedy = "save one of the fields as a plain array";
            return Err(Reason::Element { what, remedy });
        }
        _ => return Err(invalid("has a type that is no text")),
    };
    let order = match order {
        Value::Boolean(true) => Order::Fortran,
        Value::Boolean(false) => Order::C,
        _ => return Err(invalid("has a fortran_order that is not True or False")),
    };
    let Value::Tuple(lengths) = shape else {
        return Err(invalid("has a shape that is not a tuple"));
    };
    let length = |value: &Value| match value {
        Value::Integer(length) => u64::try_from(length).ok(),
        _ => None,
    };
    let shape: Option<Vec<u64>> = lengths.iter().map(length).collect();
    let shape = shape.ok_or_else(|| invalid("has a shape that is not made of lengths"))?;
    Ok(Header { shape, element, endianness, order, len: 0 })
}

fn invalid(text: &str) -> Reason {
    Reason::Header(text.to_owned())
}

fn array<const N: usize>(reader: &mut impl Read) -> Result<[u8; N], Reason> {
    let mut bytes = [0; N];
    fill(reader, &mut bytes)?;
    Ok(bytes)
}

fn fill(reader: &mut impl Read, bytes: &mut [u8]) -> Result<(), Reason> {
    reader.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => invalid("is cut off"),
        _ => Reason::Io(error),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::read_header;
    use crate::Reason;
    use crate::element::{Element, Endianness};
    use crate::header::{Header, Order};

    fn bytes(text: &str) -> Vec<u8> {
        let size = u16::try_from(text.len()).unwrap();
        [b"\x93NUMPY\x01\x00", size.to_le_bytes().as_slice(), text.as_bytes()].concat()
    }

    fn read(text: &str) -> Result<Header, Reason> {
        read_header(&mut bytes(text).as_slice())
    }

    #[test]
    fn headers_of_numpy_are_read() {
        let text = "{'descr': '>f4', 'fortran_order': True, 'shape': (3, 4), }          \n";
        let header = read(text).unwrap();
        assert_eq!((header.shape, header.element), (vec![3, 4], Element::Float32));
        assert_eq!((header.endianness, header.order), (Endianness::Big, Order::Fortran));
        assert_eq!(header.len, bytes(text).len() as u64);
        let scalar = read("{'descr': '<f8', 'fortran_order': False, 'shape': (), }\n").unwrap();
        assert_eq!((scalar.data_len(), scalar.shape), (8, vec![]));
    }

    #[test]
    fn invalid_headers_are_refused_with_a_reason() {
        let check = |text: &str, reason: &str| {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        };
        check("{'descr': '<f8', 'fortran_order': False}", "lacks one of");
        check("{'descr': '<f8', 'fortran_order': 0, 'shape': (1,)}", "not True or False");
        check("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}", "not made of lengths");
        check("{'descr': '<f8', 'fortran_order': False, 'shape': (1.0,)}", "not made of lengths");
        check("{'descr': '<f8', 'fortran_order': False, 'shape': 3}", "not a tuple");
        check("{'descr': '<f8', 'fortran_order': False, 'shape': (3,), 'x': 1}", "other than");
        check("{'shape': (3,), 'shape': (4,)}", "twice");
        check("__import__('os')", "not a Python dictionary");
        check(&"(".repeat(9_000), "nested too deeply");
        check("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (3,)}", "records");
        check("", "not a Python dictionary");
    }

    #[test]
    fn impossible_sizes_do_not_overflow() {
        let text = "{'descr': '<f8', 'fortran_order': False, 'shape': (18446744073709551615, 18446744073709551615, 9)}";
        assert_eq!(read(text).unwrap().data_len(), u128::MAX);
        let text = "{'descr': '<f8', 'fortran_order': False, 'shape': (18446744073709551616,)}";
        assert!(read(text).is_err());
    }

    #[test]
    fn long_headers_are_not_read() {
        let start = [b"\x93NUMPY\x02\x00".as_slice(), &u32::MAX.to_le_bytes()].concat();
        let error = read_header(&mut start.as_slice()).unwrap_err().to_string();
        assert!(error.contains("4294967295 bytes long"), "{error}");
        let error = read(&format!("[[[[{}", "1,".repeat(5000))).unwrap_err().to_string();
        assert!(error.contains("10004 bytes long, expected at most 10000"), "{error}");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-{}()\\[\\]'a-z:, 0-9\\\\\"]{0,80}") {
            let _ = read(&text);
        }
    }
}
