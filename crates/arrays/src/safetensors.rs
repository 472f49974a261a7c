//! Tensors in `.safetensors` files.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};

use flatmin_host::{said, short};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::Reason;
use crate::array::Data;
use crate::element::{Element, Endianness};
use crate::header::{Header, Order, check_len};

/// Most bytes of a header. The header of a large model, with thousands of tensors, has a megabyte.
const MAX_METADATA_BYTES: u64 = 8 << 20;

/// A safetensors file whose header has been read.
#[derive(Debug)]
pub(crate) struct Tensors {
    metadata: Metadata,
    file: File,
    /// The position of the first number in the file.
    start: u64,
}

impl Tensors {
    /// True when the first bytes of a file can be those of this format: the length of a header, and
    /// the beginning of a JSON object.
    pub(crate) fn is_likely(start: &[u8], file_len: u64) -> bool {
        start.split_first_chunk::<8>().is_some_and(|(len, json)| {
            let len = u64::from_le_bytes(*len);
            json.first() == Some(&b'{') && len <= file_len.max(MAX_METADATA_BYTES)
        })
    }

    /// Reads the header from the beginning of a file.
    pub(crate) fn open(mut file: File, file_len: u64) -> Result<Self, Reason> {
        let cut_off = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Reason::SafeTensors("is cut off".into()),
            _ => Reason::Io(error),
        };
        let mut len = [0; 8];
        file.read_exact(&mut len).map_err(cut_off)?;
        let len = u64::from_le_bytes(len);
        if len > MAX_METADATA_BYTES {
            let text = format!("is {len} bytes long, expected at most {MAX_METADATA_BYTES}");
            return Err(Reason::SafeTensors(text));
        }
        let mut header = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        file.read_exact(&mut header).map_err(cut_off)?;
        let makes_no_sense = |error: serde_json::Error| {
            Reason::SafeTensors(format!("makes no sense: {}", said(&error)))
        };
        // JSON does not say which of two equal keys counts.
        let Twice(twice) = serde_json::from_slice(&header).map_err(makes_no_sense)?;
        if let Some(name) = twice {
            return Err(Reason::SafeTensors(format!("names \"{}\" twice", short(&name))));
        }
        let metadata: Metadata = serde_json::from_slice(&header).map_err(makes_no_sense)?;
        let start = 8 + len;
        let (promised, found) = (metadata.data_len() as u64, file_len.saturating_sub(start));
        check_len(u128::from(promised), found)?;
        Ok(Self { metadata, file, start })
    }

    /// The names of the tensors in the order of the file.
    pub(crate) fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// The header and the numbers of a tensor.
    pub(crate) fn read(self, name: &str) -> Result<(Header, Data), Reason> {
        let info = self.metadata.info(name).ok_or(Reason::NoArray)?;
        let start = self.start + info.data_offsets.0 as u64;
        Ok((header(info)?, Data::File { file: self.file, start }))
    }
}

/// The first key that a JSON object has twice.
struct Twice(Option<String>);

impl<'de> Deserialize<'de> for Twice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Twice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Twice, A::Error> {
                let (mut seen, mut twice) = (BTreeSet::new(), None);
                while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                    twice = twice.or(seen.replace(name));
                }
                Ok(Twice(twice))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

fn header(info: &TensorInfo) -> Result<Header, Reason> {
    let element = match info.dtype {
        Dtype::F16 => Element::Float16,
        Dtype::BF16 => Element::BFloat16,
        Dtype::F32 => Element::Float32,
        Dtype::F64 => Element::Float64,
        Dtype::I8 => Element::Int8,
        Dtype::I16 => Element::Int16,
        Dtype::I32 => Element::Int32,
        Dtype::I64 => Element::Int64,
        Dtype::U8 => Element::UInt8,
        Dtype::U16 => Element::UInt16,
        Dtype::U32 => Element::UInt32,
        Dtype::U64 => Element::UInt64,
        other => {
            let (what, remedy) = match other {
                Dtype::BOOL => ("booleans (BOOL)".to_owned(), "convert them to float64"),
                Dtype::C64 => {
                    let remedy = "save their real part if that is what is meant";
                    ("complex numbers (C64)".to_owned(), remedy)
                }
                _ => {
                    let what = format!("numbers of the type {other}");
                    (what, "convert them to float32 or float64")
                }
            };
            return Err(Reason::Element { what, remedy });
        }
    };
    Ok(Header {
        shape: info.shape.iter().map(|length| *length as u64).collect(),
        element,
        endianness: Endianness::Little,
        order: Order::C,
        len: 0,
    })
}
