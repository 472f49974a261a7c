//! The bracket of a Jacobian whose samples are held by two processes, as in data-parallel training.
//!
//! The program starts itself twice. Each worker holds half of the samples and answers products on
//! its standard input and output. Products with J are those of the workers one below the other, and
//! products with its transpose are sums. There is no test harness, which would write to the same
//! output.

use std::error::Error;
use std::io::{self, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use faer::{Mat, MatMut, MatRef};
use flatmin_linalg::{DenseJacobian, FnJacobian, JacobianProducts as _, Parallelism, RowMatrix};
use flatmin_theory::{Batch, BracketOptions, Optimizer, Sampling, threshold_bracket};

/// Samples, outputs and parameters of the whole problem.
const SHAPE: [usize; 3] = [120, 2, 50];

/// The rows of a worker.
const HALF: usize = SHAPE[0] / 2 * SHAPE[1];

/// What the parent asks for.
const JVP: u8 = 0;
const VJP: u8 = 1;
const GRAMS: u8 = 2;

type Failure = Box<dyn Error + Send + Sync>;

/// Rows from `first` on of a Jacobian whose spectrum decays.
fn rows(first: usize, count: usize) -> RowMatrix {
    RowMatrix::from_fn(count, SHAPE[2], |row, j| {
        let i = first + row;
        let entry = ((i * 7919 + j * 104_729 + i * i * j) % 1009) as f64 / 504.5 - 1.0;
        entry / (1.0 + j as f64)
    })
}

fn send(writer: &mut impl io::Write, values: MatRef<'_, f64>) -> io::Result<()> {
    for column in values.col_iter() {
        for value in column.iter() {
            writer.write_all(&value.to_le_bytes())?;
        }
    }
    writer.flush()
}

fn receive(reader: &mut impl io::Read, mut values: MatMut<'_, f64>) -> io::Result<()> {
    let mut bytes = [0; 8];
    for column in values.as_mut().col_iter_mut() {
        for value in column.iter_mut() {
            reader.read_exact(&mut bytes)?;
            *value = f64::from_le_bytes(bytes);
        }
    }
    Ok(())
}

/// Answers requests about one half of the samples until the input ends.
fn work(index: usize) -> Result<(), Failure> {
    let matrix = rows(index * HALF, HALF);
    let jacobian = DenseJacobian::new(&matrix, SHAPE[1], Parallelism::Sequential)?;
    let (mut input, mut output) =
        (io::BufReader::new(io::stdin()), io::BufWriter::new(io::stdout()));
    let mut request = [0; 2];
    while input.read_exact(&mut request).is_ok() {
        let [kind, columns] = request;
        let columns = usize::from(columns);
        let (from, to) = match kind {
            JVP => (SHAPE[2], HALF),
            VJP => (HALF, SHAPE[2]),
            _ => (0, HALF * SHAPE[1]),
        };
        let mut vectors = Mat::zeros(from, columns);
        receive(&mut input, vectors.as_mut())?;
        let mut images = Mat::zeros(to, columns);
        match kind {
            JVP => jacobian.jvp(vectors.as_ref(), images.as_mut())?,
            VJP => jacobian.vjp(vectors.as_ref(), images.as_mut())?,
            _ => jacobian.sample_grams(images.col_as_slice_mut(0))?,
        }
        send(&mut output, images.as_ref())?;
    }
    Ok(())
}

/// A worker and the pipes to it.
struct Worker {
    child: Child,
    pipes: Mutex<(ChildStdin, ChildStdout)>,
}

impl Worker {
    fn start(index: usize) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["worker", &index.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take()).ok_or("no pipes")?;
        Ok(Self { child, pipes: Mutex::new(pipes) })
    }

    fn ask(
        &self,
        kind: u8,
        vectors: MatRef<'_, f64>,
        images: MatMut<'_, f64>,
    ) -> Result<(), Failure> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let columns = u8::try_from(images.ncols())?;
        let mut request = io::BufWriter::new(&mut pipes.0);
        request.write_all(&[kind, columns])?;
        send(&mut request, vectors)?;
        drop(request);
        receive(&mut io::BufReader::new(&mut pipes.1), images)?;
        Ok(())
    }

    fn finish(mut self) -> Result<(), Failure> {
        drop(self.pipes);
        if self.child.wait()?.success() { Ok(()) } else { Err("a worker failed".into()) }
    }
}

/// Compares the bracket of the two workers with that of the whole Jacobian.
fn compare() -> Result<(), Failure> {
    let [n, k, p] = SHAPE;
    let workers = [Worker::start(0)?, Worker::start(1)?];
    let jvp = |v: MatRef<'_, f64>, out: MatMut<'_, f64>| {
        let (above, below) = out.split_at_row_mut(HALF);
        workers[0].ask(JVP, v, above)?;
        workers[1].ask(JVP, v, below)
    };
    let vjp = |u: MatRef<'_, f64>, mut out: MatMut<'_, f64>| {
        let mut other = Mat::zeros(p, u.ncols());
        workers[0].ask(VJP, u.subrows(0, HALF), out.as_mut())?;
        workers[1].ask(VJP, u.subrows(HALF, HALF), other.as_mut())?;
        out += other;
        Ok(())
    };
    let grams = |grams: &mut [f64]| {
        for (worker, part) in workers.iter().zip(grams.chunks_mut(HALF * k)) {
            let images = MatMut::from_column_major_slice_mut(part, HALF * k, 1);
            worker.ask(GRAMS, Mat::zeros(0, 1).as_ref(), images)?;
        }
        Ok(())
    };
    let divided = FnJacobian::new([n, k, p], jvp, vjp, grams);
    let whole = rows(0, n * k);
    let whole = DenseJacobian::new(&whole, k, Parallelism::Sequential)?;
    let (sgd, options) = (Optimizer::sgd(), BracketOptions::default());
    for size in [1, 16] {
        let batch = Batch::new(size, Sampling::WithoutReplacement)?;
        let found = threshold_bracket(&divided, &sgd, &batch, &options)?;
        let expected = threshold_bracket(&whole, &sgd, &batch, &options)?;
        assert!(found.lower < found.upper, "{found:?}");
        let differs = |a: f64, b: f64, tolerance: f64| (a / b - 1.0).abs() > tolerance;
        assert!(!differs(found.upper, expected.upper, 1e-10), "{found:?} {expected:?}");
        assert!(!differs(found.estimate, expected.estimate, 1e-10), "{found:?} {expected:?}");
        // The Lanczos recurrence of the certificate magnifies the rounding of the products, which
        // are summed in another order here. Its bound is wanted to 1e-3, so 1e-6 is rounding.
        assert!(!differs(found.lower, expected.lower, 1e-6), "{found:?} {expected:?}");
    }
    workers.into_iter().try_for_each(Worker::finish)
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("worker"), Some(index)) => work(index.parse()?),
        (Some("--list"), _) => Ok(()),
        _ => compare(),
    }
}
