//! Subspaces as bytes: eight bytes for each number, little-endian, and a checksum.

use std::io::{self, Read, Write};

use super::columns::{Columns, TallMatrix};
use super::subspace::{Subspace, Tail};

/// The first bytes of a stored subspace.
const MAGIC: &[u8; 24] = b"flatmin subspace, v. 1 \n";

/// The numbers that are read at a time, so that a wrong length takes no memory.
const CHUNK: usize = 1 << 15;

fn damaged(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// The checksum of eight bytes after those before them.
fn mixed(sum: u64, word: u64) -> u64 {
    (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// Writes numbers and sums them up.
struct Words<W> {
    writer: W,
    sum: u64,
}

impl<W: Write> Words<W> {
    fn word(&mut self, word: u64) -> io::Result<()> {
        self.sum = mixed(self.sum, word);
        self.writer.write_all(&word.to_le_bytes())
    }

    fn columns(&mut self, columns: &Columns) -> io::Result<()> {
        let (rows, values) = columns.parts();
        self.word(rows as u64)?;
        self.word(values.len() as u64)?;
        let mut bytes = Vec::with_capacity(8 * CHUNK);
        for chunk in values.chunks(CHUNK) {
            bytes.clear();
            for value in chunk {
                self.sum = mixed(self.sum, value.to_bits());
                bytes.extend_from_slice(&value.to_le_bytes());
            }
            self.writer.write_all(&bytes)?;
        }
        Ok(())
    }
}

/// Reads numbers and sums them up.
struct WordsBack<R> {
    reader: R,
    sum: u64,
}

impl<R: Read> WordsBack<R> {
    fn word(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.reader.read_exact(&mut bytes)?;
        let word = u64::from_le_bytes(bytes);
        self.sum = mixed(self.sum, word);
        Ok(word)
    }

    fn size(&mut self) -> io::Result<usize> {
        usize::try_from(self.word()?).map_err(|_| damaged("a length is too large"))
    }

    fn columns(&mut self) -> io::Result<Columns> {
        let (rows, mut left) = (self.size()?, self.size()?);
        if left > 0 && left.checked_rem(rows) != Some(0) {
            return Err(damaged("has a matrix without whole columns"));
        }
        let mut values = Vec::new();
        let mut bytes = vec![0; 8 * CHUNK.min(left)];
        while left > 0 {
            let part = &mut bytes[..8 * CHUNK.min(left)];
            self.reader.read_exact(part)?;
            for eight in part.chunks_exact(8) {
                let mut word = [0; 8];
                word.copy_from_slice(eight);
                let word = u64::from_le_bytes(word);
                self.sum = mixed(self.sum, word);
                values.push(f64::from_bits(word));
            }
            left -= CHUNK.min(left);
        }
        Ok(Columns::of_parts(rows, values))
    }
}

impl Subspace {
    /// Writes the subspace as bytes that [`read_from`](Self::read_from) reads: eight for each
    /// number, and a checksum. Wrap a file in a [`BufWriter`](io::BufWriter).
    ///
    /// ```
    /// use flatmin_theory::Subspace;
    /// let mut bytes = Vec::new();
    /// Subspace::new().write_to(&mut bytes)?;
    /// assert_eq!(Subspace::read_from(&mut bytes.as_slice())?, Subspace::new());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// The errors of the writer.
    pub fn write_to(&self, writer: &mut impl Write) -> io::Result<()> {
        writer.write_all(MAGIC)?;
        let mut words = Words { writer, sum: 0 };
        let (rows, blocks) = self.basis().parts();
        words.word(rows as u64)?;
        words.word(blocks.len() as u64)?;
        for block in blocks {
            words.columns(block)?;
        }
        for matrix in [&self.next, &self.projection, &self.coupling] {
            words.columns(matrix)?;
        }
        words.word(u64::from(self.exponent.cast_unsigned()))?;
        words.word(self.products as u64)?;
        words.word(self.draws)?;
        words.word(u64::from(self.tail.is_some()))?;
        if let Some(Tail { modes, bound, failure }) = self.tail {
            for word in [modes as u64, bound.to_bits(), failure.to_bits()] {
                words.word(word)?;
            }
        }
        let sum = words.sum;
        words.word(sum)
    }

    /// Reads what [`write_to`](Self::write_to) wrote.
    ///
    /// # Errors
    /// [`InvalidData`](io::ErrorKind::InvalidData) when the bytes are not those of a subspace or
    /// have changed, and the errors of the reader.
    pub fn read_from(reader: &mut impl Read) -> io::Result<Self> {
        let mut magic = [0; MAGIC.len()];
        reader.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(damaged("is no subspace of this version"));
        }
        let mut words = WordsBack { reader, sum: 0 };
        let (rows, count) = (words.size()?, words.size()?);
        let mut basis = TallMatrix::new(rows);
        for _ in 0..count {
            basis.push(words.columns()?);
        }
        let (next, projection, coupling) = (words.columns()?, words.columns()?, words.columns()?);
        let exponent =
            u32::try_from(words.word()?).map_err(|_| damaged("a number is too large"))?;
        let (products, draws) = (words.size()?, words.word()?);
        let tail = match words.word()? {
            0 => None,
            1 => Some(Tail {
                modes: words.size()?,
                bound: f64::from_bits(words.word()?),
                failure: f64::from_bits(words.word()?),
            }),
            _ => return Err(damaged("a number is too large")),
        };
        let sum = words.sum;
        if words.word()? != sum {
            return Err(damaged("has changed since it was written"));
        }
        let exponent = exponent.cast_signed();
        let optimism = 1.0;
        Ok(Self { basis, next, projection, coupling, exponent, products, draws, tail, optimism })
    }
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::{DenseJacobian, Parallelism, RowMatrix};

    use super::super::counted::CountedGram;
    use super::Subspace;

    #[test]
    fn bytes_that_changed_are_refused() {
        let matrix = RowMatrix::from_fn(30, 20, |i, j| ((i * 7 + j * j) % 11) as f64 - 5.0);
        let dense = DenseJacobian::new(&matrix, 1, Parallelism::Sequential).unwrap();
        let mut gram = CountedGram::new(&dense, 0, usize::MAX).unwrap();
        let mut space = Subspace::new();
        for _ in 0..3 {
            space.grow(&mut gram, 4, 0, Parallelism::Sequential).unwrap();
        }
        let mut bytes = Vec::new();
        space.write_to(&mut bytes).unwrap();
        assert_eq!(Subspace::read_from(&mut bytes.as_slice()).unwrap(), space);
        for at in (0..bytes.len()).step_by(97) {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            assert!(Subspace::read_from(&mut changed.as_slice()).is_err(), "{at}");
            assert!(Subspace::read_from(&mut &bytes[..at]).is_err(), "{at}");
        }
    }
}
