//! The valid name that someone who wrote another one most likely meant. Pure, and below everything that reads names.

use indexmap::IndexSet;

/// Most names that a message lists.
const NAMES_MAX: usize = 20;

/// The nearest of some names, if one is near.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let close = |a: &str| {
        let similarity = strsim::jaro_winkler(&name.to_lowercase(), &a.to_lowercase());
        if strsim::damerau_levenshtein(name, a) <= 2 { similarity.max(0.8) } else { similarity }
    };
    let best = known.into_iter().map(|a| (close(a), a)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= 0.8).then_some(best.1)
}

/// `did you mean x?`, or what there is.
pub fn suggest<'a>(name: &str, what: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(name, known.clone()) {
        return format!("did you mean `{near}`?");
    }
    let known: IndexSet<String> = known.into_iter().take(NAMES_MAX).map(|name| format!("`{name}`")).collect();
    let known: Vec<String> = known.into_iter().collect();
    if known.is_empty() { format!("this file names no {what}") } else { format!("there is {}", known.join(", ")) }
}
