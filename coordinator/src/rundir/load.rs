//! A directory back to the record that was written to it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use gauntlet_common::event::What;
use gauntlet_common::plan::Plan;
use serde::de::DeserializeOwned;

use super::error::{RunDirError, failed};
use super::files::{EVENTS, LEDGER, METRICS, MetricLine, PLAN, SERIES};
use super::sums::{SUMS, Sum, differing};
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
/// note; so is a missing end, which the events show, or for a run that ended the count of all lines. Anything unreadable before the last line is noted
/// in the record too, so that the run cannot pass.
pub fn load(directory: &Path) -> Result<Loaded, RunDirError> {
    let path = directory.join(PLAN);
    let text = std::fs::read_to_string(&path).map_err(failed(&path, "read the plan"))?;
    let content = |why: String| RunDirError::Content { path: path.clone(), why };
    let plan =
        Plan::from_json(text.as_bytes()).map_err(|e| content(format!("this is no plan of this version: {e}")))?;
    if let Some(why) = plan.unsound() {
        return Err(content(format!("this is no plan of a run: {why}")));
    }
    let record = Record::new(&plan).map_err(|e| content(e.to_string()))?;
    // A directory may be there to be read only.
    let mut record = record.writing_below(vec![directory.to_path_buf(), std::env::temp_dir()]);
    let mut notes = Vec::new();
    let mut troubles = Vec::new();
    let mut read = Reader { directory, notes: &mut notes, troubles: &mut troubles };
    let events = read.lines(EVENTS, |event| record.event(event).map_err(|e| e.to_string()))?;
    let series = read.lines(SERIES, |snapshot| record.snapshot(&snapshot).map(drop).map_err(|e| e.to_string()))?;
    let mut end = None;
    let metrics = read.lines(METRICS, |line| match line {
        MetricLine::Role(metrics) => record.role_metrics(&metrics).map_err(|e| e.to_string()),
        MetricLine::Process(sample) => record.process(&sample).map_err(|e| e.to_string()),
        MetricLine::Node(sample) => record.node(&sample).map_err(|e| e.to_string()),
        MetricLine::End { events, series, metrics } => {
            end = Some([(EVENTS, events), (SERIES, series), (METRICS, metrics + 1)]);
            Ok(())
        }
    })?;
    if let Some(why) = record.disk_trouble() {
        return Err(RunDirError::Content { path: directory.into(), why: why.into() });
    }
    let mut sums: Vec<Sum> = Vec::new();
    let mut read = Reader { directory, notes: &mut notes, troubles: &mut troubles };
    read.lines(SUMS, |sum| {
        sums.push(sum);
        Ok(())
    })?;
    let ended = record.events().iter().any(|event| matches!(event.what, What::RunEnded { .. }));
    troubles.extend(differing(directory, &sums, &[PLAN, EVENTS, SERIES, METRICS, LEDGER], ended)?);
    troubles.extend(incomplete(&record, end, [events, series, metrics]));
    troubles.into_iter().for_each(|trouble| record.note_trouble(trouble));
    Ok(Loaded { plan, record, notes })
}

/// What is missing at the end of the files of a run that came to its end; one that did not tells so by its events.
fn incomplete(record: &Record, end: Option<[(&str, u64); 3]>, found: [u64; 3]) -> Vec<String> {
    if !record.events().iter().any(|event| matches!(event.what, What::RunEnded { .. })) {
        return Vec::new();
    }
    let Some(written) = end else {
        return vec![format!("{METRICS}: the count of all lines is missing, which is its last line")];
    };
    let differing = written.into_iter().zip(found).filter(|((_, written), found)| written != found);
    differing.map(|((name, written), found)| format!("{name}: {found} of {written} lines are there")).collect()
}

struct Reader<'a> {
    directory: &'a Path,
    notes: &'a mut Vec<String>,
    troubles: &'a mut Vec<String>,
}

impl Reader<'_> {
    /// Reads a file line by line; how many whole lines it has, comments apart.
    fn lines<T: DeserializeOwned>(
        &mut self,
        name: &str,
        mut take: impl FnMut(T) -> Result<(), String>,
    ) -> Result<u64, RunDirError> {
        let path = self.directory.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.troubles.push(format!("{name} is missing from the run directory"));
                return Ok(0);
            }
            Err(error) => return Err(failed(&path, "open it")(error)),
        };
        let mut file = BufReader::new(file);
        let mut line = Vec::new();
        let mut whole = 0;
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
            whole += 1;
            let taken = serde_json::from_slice(&line).map_err(|e| e.to_string()).and_then(&mut take);
            if let Err(why) = taken {
                self.troubles.push(format!("{name}: line {number} cannot be read: {why}"));
            }
        }
        Ok(whole)
    }
}
