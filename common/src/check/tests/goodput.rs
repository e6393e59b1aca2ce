//! An aggregate function of one file and one line, as `docs/extending.md` walks through it.

use super::*;
use crate::check::function::{Basis, Function, Functions, InObjective, Name, Takes};

/// `goodput(users)`: requests that succeeded, a second.
static GOODPUT: Function = Function {
    name: Name::Word("goodput"),
    takes: Takes::Samples {
        basis: Basis::Outcomes {
            value: |counts, asked| counts.ok as f64 / asked.seconds,
            at_most: None,
            of_class: false,
            of_step: true,
        },
        objective: Some(InObjective { called: "goodput", of_errors: true }),
    },
    unit: Some(Unit::Rate),
    is_total: false,
    is_correctness: false,
};

/// The line of registration.
const WITH_GOODPUT: Functions = &[&GOODPUT];

fn read(text: &str) -> Result<Check, Vec<CheckError>> {
    super::super::parse::read(text, &names(), WITH_GOODPUT, None)
}

fn error(text: &str) -> String {
    read(text).unwrap_err()[0].to_string()
}

#[test]
fn a_new_aggregate_function_is_one_file_and_one_line() {
    // The fake makes 99 good requests and a bad one a second.
    let text = "goodput(users.login) >= 99/s in peak";
    let check = read(text).unwrap();
    assert_eq!(check.to_string(), text);
    let judged = evaluate(&check, &Fake::default(), &timeline());
    assert_eq!((judged.observed.to_string(), judged.limit.to_string()), ("99/s".into(), ">= 99/s".into()));
    assert_eq!((judged.result, judged.samples), (Finding::Pass, 4000));
    assert_eq!(judged.windows, ["peak, 20s..60s"]);
    let more = read("goodput(users) > 99/s").unwrap();
    assert_eq!(evaluate(&more, &Fake::default(), &timeline()).result, Finding::Fail);
    assert!(!check.correctness() && !check.aggregates()[0].is_total() && check.ledgers().is_empty());
}

#[test]
fn an_objective_may_be_stated_by_it_where_its_entry_says_so() {
    let objective = |text| Objective::of(text, "users", &names(), WITH_GOODPUT);
    let stated = objective("goodput >= 100/s").unwrap();
    assert!(stated.holds(&outcomes(500, 9), 5.0) && !stated.holds(&outcomes(499, 9), 5.0));
    let refused = objective("goodput(users.login) > 1/s").unwrap_err();
    assert!(refused[0].help.contains("goodput"), "{refused:?}");
}

#[test]
fn what_its_entry_does_not_allow_is_refused_as_of_any_other() {
    let unit = "a rate (500/s) cannot be compared with a number (100); write `99` as a rate (500/s)";
    assert_eq!(error("goodput(users) > 99"), unit);
    assert_eq!(error("godput(users) > 99/s"), "there is no aggregate `godput`; did you mean `goodput`?");
    assert!(error("goodput(app.rss) > 99/s").contains("`goodput` cannot be asked of `app.rss`"));
    assert!(error("goodput(users:service) > 99/s").contains("leave `:service` out"));
    assert!(error("goodput(users, timeout) > 99/s").contains("takes no second argument"));
    assert_eq!(error("rate(users) > 99/s"), "there is no aggregate `rate`; there are `goodput`", "of the table alone");
    assert!(parse("goodput(users) > 99/s", &names()).is_err(), "not in the build's own table");
}
