//! A directory back to the record that was written to it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use gauntlet_common::plan::Plan;
use serde::de::DeserializeOwned;

use super::{EVENTS, METRICS, MetricLine, PLAN, RunDirError, SERIES, failed};
use crate::record::Record;

/// Longest line that is read; a longer one is not ours.
const LINE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What a directory held.
#[derive(Debug)]
pub struct Loaded {
    pub plan: Plan,
    pub record: Record,
    /// Torn ends and the like; noted in the record only where something is missing in the middle.
    pub notes: Vec<String>,
}

/// Reads a run from its directory alone. A torn last line (the coordinator died while it wrote it) is left out with a
/// note; a missing end needs no word here, since the events show it. Anything unreadable before the last line is noted
/// in the record too, so that the run cannot pass.
pub fn load(directory: &Path) -> Result<Loaded, RunDirError> {
    let path = directory.join(PLAN);
    let text = std::fs::read_to_string(&path).map_err(failed(&path, "read the plan"))?;
    let content = |why: String| RunDirError::Content { path: path.clone(), why };
    let plan: Plan =
        serde_json::from_str(&text).map_err(|e| content(format!("this is no plan of this version: {e}")))?;
    let mut record = Record::new(&plan).map_err(|e| content(e.to_string()))?;
    let mut notes = Vec::new();
    let mut troubles = Vec::new();
    let mut read = Reader { directory, notes: &mut notes, troubles: &mut troubles };
    read.lines(EVENTS, |event| record.event(event).map_err(|e| e.to_string()))?;
    read.lines(SERIES, |snapshot| record.snapshot(&snapshot).map(drop).map_err(|e| e.to_string()))?;
    read.lines(METRICS, |line| match line {
        MetricLine::Role(metrics) => record.role_metrics(&metrics).map_err(|e| e.to_string()),
        MetricLine::Process(sample) => record.process(&sample).map_err(|e| e.to_string()),
        MetricLine::Node(sample) => record.node(&sample).map_err(|e| e.to_string()),
    })?;
    troubles.into_iter().for_each(|trouble| record.note_trouble(trouble));
    Ok(Loaded { plan, record, notes })
}

struct Reader<'a> {
    directory: &'a Path,
    notes: &'a mut Vec<String>,
    troubles: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn lines<T: DeserializeOwned>(
        &mut self,
        name: &str,
        mut take: impl FnMut(T) -> Result<(), String>,
    ) -> Result<(), RunDirError> {
        let path = self.directory.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.troubles.push(format!("{name} is missing from the run directory"));
                return Ok(());
            }
            Err(error) => return Err(failed(&path, "open it")(error)),
        };
        let mut file = BufReader::new(file);
        let mut line = Vec::new();
        for number in 1u64.. {
            line.clear();
            let length =
                file.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(failed(&path, "read it"))?;
            if length == 0 {
                break;
            }
            // The writer ends every line in the same write: without its end it is torn, even where it looks whole.
            if line.last() != Some(&b'\n') {
                if length as u64 >= LINE_BYTES_MAX {
                    return Err(RunDirError::Content {
                        path,
                        why: format!("line {number} is longer than {LINE_BYTES_MAX} bytes"),
                    });
                }
                self.notes.push(format!("{name}: line {number} is torn and left out"));
                break;
            }
            if line.starts_with(b"#") {
                continue;
            }
            let taken = serde_json::from_slice(&line).map_err(|e| e.to_string()).and_then(&mut take);
            if let Err(why) = taken {
                self.troubles.push(format!("{name}: line {number} cannot be read: {why}"));
            }
        }
        Ok(())
    }
}
