//! The file of weights: a length, a list of tensors as JSON, and their numbers one after the other.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

/// The list of the tensors is no longer than this.
const HEADER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// More numbers than any tensor of a sentence transformer has.
const NUMBERS_MAX: usize = 512 * 1024 * 1024;
const NUMBER_BYTES: usize = 4;

#[derive(Debug, Clone, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// An open file of weights.
#[derive(Debug)]
pub(super) struct Weights {
    file: File,
    entries: BTreeMap<String, Entry>,
    /// Where the numbers begin.
    start: u64,
}

/// Rows of numbers that stay in the file.
#[derive(Debug)]
pub(super) struct Rows {
    file: File,
    start: u64,
    rows: usize,
    columns: usize,
}

impl Weights {
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let failed = |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
        let file = File::open(path).map_err(|error| failed(&error))?;
        let mut length = [0; 8];
        file.read_exact_at(&mut length, 0).map_err(|error| failed(&error))?;
        let length = u64::from_le_bytes(length);
        if length > HEADER_BYTES_MAX {
            return Err(failed(&"is no file of safetensors"));
        }
        let mut header = vec![0; usize::try_from(length).map_err(|error| failed(&error))?];
        file.read_exact_at(&mut header, 8).map_err(|error| failed(&error))?;
        let header: BTreeMap<String, Value> = serde_json::from_slice(&header).map_err(|error| failed(&error))?;
        let mut entries = BTreeMap::new();
        for (name, entry) in header.into_iter().filter(|(name, _)| name != "__metadata__") {
            let entry: Entry = serde_json::from_value(entry).map_err(|error| failed(&error))?;
            // Some files have the whole model below this name.
            let name = name.strip_prefix("bert.").map_or(name.clone(), ToOwned::to_owned);
            entries.insert(name, entry);
        }
        Ok(Self { file, entries, start: 8 + length })
    }

    fn entry(&self, name: &str, shape: &[usize]) -> Result<(u64, usize), String> {
        let entry = self.entries.get(name).ok_or_else(|| format!("the weights have no {name}"))?;
        if entry.dtype != "F32" || entry.shape != shape {
            let Entry { dtype, shape: found, .. } = entry;
            return Err(format!("{name} is {dtype} {found:?} and not F32 {shape:?}"));
        }
        let count = shape.iter().try_fold(1usize, |count, size| count.checked_mul(*size));
        let count = count.filter(|count| *count <= NUMBERS_MAX).ok_or_else(|| format!("{name} is too large"))?;
        let [from, to] = entry.data_offsets;
        if to.checked_sub(from) != Some((count * NUMBER_BYTES) as u64) {
            return Err(format!("{name} has not the bytes of its shape"));
        }
        Ok((self.start.saturating_add(from), count))
    }

    /// All numbers of a tensor.
    pub(super) fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        let (start, count) = self.entry(name, shape)?;
        let mut bytes = vec![0; count * NUMBER_BYTES];
        self.file.read_exact_at(&mut bytes, start).map_err(|error| format!("{name}: {error}"))?;
        Ok(numbers(&bytes).collect())
    }

    /// The rows of a tensor, to be read one by one.
    pub(super) fn rows(&self, name: &str, rows: usize, columns: usize) -> Result<Rows, String> {
        let (start, _) = self.entry(name, &[rows, columns])?;
        let file = self.file.try_clone().map_err(|error| error.to_string())?;
        Ok(Rows { file, start, rows, columns })
    }
}

impl Rows {
    /// Reads one row.
    pub(super) fn read(&self, row: usize, into: &mut [f32]) -> Result<(), String> {
        if row >= self.rows {
            return Err(format!("there is no token {row}"));
        }
        let mut bytes = vec![0; self.columns * NUMBER_BYTES];
        let at = self.start + (row * self.columns * NUMBER_BYTES) as u64;
        self.file.read_exact_at(&mut bytes, at).map_err(|error| error.to_string())?;
        into.iter_mut().zip(numbers(&bytes)).for_each(|(place, number)| *place = number);
        Ok(())
    }
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<NUMBER_BYTES>().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}
