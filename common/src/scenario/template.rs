//! What may stand between `{{` and `}}`, read in one place for the checker and for the load. Pure.

use crate::units::Micros;

/// What a template may name beside captures: who runs, which time, and something unique.
pub const TEMPLATE_NAMES: [&str; 4] = ["user", "iteration", "uuid", "now_us"];
/// Most texts that `pick` chooses from.
const PICKS_MAX: usize = 100;

/// A hole of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hole {
    /// The user's number.
    User,
    /// The user's iteration.
    Iteration,
    /// A random UUID.
    Uuid,
    /// A whole number between the two, both included.
    Int(u64, u64),
    /// One of these, all equally likely.
    Pick(Vec<String>),
    /// Wall clock less so much, us since 1970.
    NowUs(Micros),
    /// How long ago the `now_us` was that this variable holds, us.
    Since(String),
    /// What an earlier step captured or set.
    Variable(String),
}

impl Hole {
    /// Reads what stands inside, without the braces. An error says what is wrong, and after a semicolon how to mend it.
    pub fn parse(inside: &str) -> Result<Self, String> {
        let inside = inside.trim();
        Ok(match inside {
            "user" => Self::User,
            "iteration" => Self::Iteration,
            "uuid" => Self::Uuid,
            "now_us" => Self::NowUs(Micros(0)),
            _ => match call(inside) {
                Some(("int", arguments)) => int(inside, arguments)?,
                Some(("pick", arguments)) => pick(inside, arguments)?,
                Some(("now_us", arguments)) => {
                    let before = arguments.trim().strip_prefix('-').and_then(|before| before.trim().parse().ok());
                    Self::NowUs(before.ok_or_else(|| format!("`{inside}` is no earlier moment; write now_us(-5m)"))?)
                }
                Some(("since", variable)) => Self::Since(variable.trim().into()),
                _ => Self::Variable(inside.into()),
            },
        })
    }

    /// The variable that it puts in, or that it reads.
    pub fn variable(&self) -> Option<&str> {
        match self {
            Self::Variable(name) | Self::Since(name) => Some(name),
            _ => None,
        }
    }
}

/// `name(arguments)`.
pub(super) fn call(inside: &str) -> Option<(&str, &str)> {
    inside.strip_suffix(')')?.split_once('(')
}

fn int(inside: &str, arguments: &str) -> Result<Hole, String> {
    let bounds = arguments.split_once(',').map(|(min, max)| (min.trim().parse::<u64>(), max.trim().parse::<u64>()));
    match bounds {
        Some((Ok(min), Ok(max))) if min <= max => Ok(Hole::Int(min, max)),
        _ => Err(format!("`{inside}` is not two whole numbers; write the smaller first: int(1,100)")),
    }
}

fn pick(inside: &str, arguments: &str) -> Result<Hole, String> {
    let texts: Vec<String> = arguments.split(',').map(|text| text.trim().to_string()).collect();
    if texts.len() > PICKS_MAX || texts.iter().any(String::is_empty) {
        return Err(format!(
            "`{inside}` does not pick from 1 to {PICKS_MAX} texts; write them with commas between: pick(red,green)"
        ));
    }
    Ok(Hole::Pick(texts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_what_it_says() {
        let of = |text: &str| Hole::parse(text).unwrap();
        assert_eq!([of(" user "), of("iteration"), of("uuid")], [Hole::User, Hole::Iteration, Hole::Uuid]);
        assert_eq!(of("int(3, 5)"), Hole::Int(3, 5));
        assert_eq!(of("pick(a, b c)"), Hole::Pick(vec!["a".into(), "b c".into()]));
        assert_eq!([of("now_us"), of("now_us(-5m)")], [Hole::NowUs(Micros(0)), Hole::NowUs(Micros::from_secs(300))]);
        assert_eq!(of("since(began)").variable(), Some("began"));
        assert_eq!(of("session").variable(), Some("session"));
    }

    #[test]
    fn arguments_that_mean_nothing_are_refused() {
        for text in ["int(5,3)", "int(1)", "int(a,b)", "pick()", "pick(a,,b)", "now_us(5m)", "now_us(-soon)"] {
            assert!(Hole::parse(text).unwrap_err().contains(';'), "{text}");
        }
    }
}
