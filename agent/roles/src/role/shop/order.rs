//! An order: the steps that make it, which of them it takes next, and what each changes. Pure.

use serde::{Deserialize, Serialize};

use super::money::Cents;

/// Items of one order; more are refused.
pub const ITEMS_MAX: usize = 100;
/// Discounts of one order; more are refused.
pub const DISCOUNTS_MAX: usize = 10;
/// Pieces of one item; more are refused.
pub const QTY_MAX: u32 = 10_000;
/// Longest text of a step, bytes; longer ones are refused.
pub const TEXT_BYTES_MAX: usize = 128;

/// A line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    pub sku: String,
    pub qty: u32,
    pub price: Cents,
}

/// A discount that was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discount {
    pub code: String,
    pub amount: Cents,
}

/// What a command asks for and, once it was accepted, its domain event says. The five and their fields are the source's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command_type", content = "command_data", rename_all = "snake_case")]
pub enum Step {
    CreateOrder { user_id: String, items: Vec<Item> },
    AddItem(Item),
    ApplyDiscount(Discount),
    ProcessPayment { payment_method: String, amount: Cents },
    ConfirmOrder { estimated_delivery: String },
}

/// How far an order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nobody has created it.
    #[default]
    None,
    Created,
    Paid,
    Confirmed,
}

impl Status {
    /// As read models tell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Created => "created",
            Self::Paid => "paid",
            Self::Confirmed => "confirmed",
        }
    }
}

/// Why a step is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no such order; create it first")]
    Missing,
    #[error("there is such an order already; choose another order_id")]
    Exists,
    #[error("the order is {is}, and {step} needs one that is {needs}")]
    Stage { is: &'static str, step: &'static str, needs: &'static str },
    #[error("{due} are due, not {asked}; pay exactly what is due")]
    Due { due: Cents, asked: Cents },
    #[error("discounts of {asked} on goods of {goods}; at most what the goods cost")]
    Discount { goods: Cents, asked: Cents },
    #[error("{0}")]
    Malformed(String),
}

/// An order after some steps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Order {
    /// Steps taken.
    pub sequence: u32,
    pub status: Status,
    pub user_id: String,
    pub items: Vec<Item>,
    pub discounts: Vec<Discount>,
    /// Method and amount.
    pub payment: Option<(String, Cents)>,
    pub estimated_delivery: String,
}

impl Step {
    /// As in the command event's `command_type`.
    pub const fn command(&self) -> &'static str {
        match self {
            Self::CreateOrder { .. } => "create_order",
            Self::AddItem(_) => "add_item",
            Self::ApplyDiscount(_) => "apply_discount",
            Self::ProcessPayment { .. } => "process_payment",
            Self::ConfirmOrder { .. } => "confirm_order",
        }
    }

    /// The type of its domain event.
    pub const fn event(&self) -> &'static str {
        match self {
            Self::CreateOrder { .. } => "order_created",
            Self::AddItem(_) => "item_added",
            Self::ApplyDiscount(_) => "discount_applied",
            Self::ProcessPayment { .. } => "payment_processed",
            Self::ConfirmOrder { .. } => "order_confirmed",
        }
    }

    /// The command whose domain event has this type.
    pub fn command_of(event: &str) -> Option<&'static str> {
        Some(match event {
            "order_created" => "create_order",
            "item_added" => "add_item",
            "discount_applied" => "apply_discount",
            "payment_processed" => "process_payment",
            "order_confirmed" => "confirm_order",
            _ => return None,
        })
    }

    /// What is wrong with it whatever the order.
    pub fn check(&self) -> Result<(), Refusal> {
        match self {
            Self::CreateOrder { user_id, items } => {
                text("user_id", user_id)?;
                if items.is_empty() || items.len() > ITEMS_MAX {
                    return Err(Refusal::Malformed(format!("{} items; an order has 1 to {ITEMS_MAX}", items.len())));
                }
                items.iter().try_for_each(Item::check)
            }
            Self::AddItem(item) => item.check(),
            Self::ApplyDiscount(discount) => text("code", &discount.code),
            Self::ProcessPayment { payment_method, .. } => text("payment_method", payment_method),
            Self::ConfirmOrder { estimated_delivery } => text("estimated_delivery", estimated_delivery),
        }
    }
}

impl Item {
    fn check(&self) -> Result<(), Refusal> {
        text("sku", &self.sku)?;
        if self.qty == 0 || self.qty > QTY_MAX {
            return Err(Refusal::Malformed(format!("a qty of {}; it is 1 to {QTY_MAX}", self.qty)));
        }
        Ok(())
    }
}

fn text(name: &str, text: &str) -> Result<(), Refusal> {
    if text.is_empty() || text.len() > TEXT_BYTES_MAX {
        return Err(Refusal::Malformed(format!("{name} has {} bytes; it has 1 to {TEXT_BYTES_MAX}", text.len())));
    }
    Ok(())
}

impl Order {
    /// What the items cost.
    pub fn goods(&self) -> Cents {
        Cents(self.items.iter().map(|item| u64::from(item.qty) * item.price.0).sum())
    }

    /// All discounts.
    pub fn discount(&self) -> Cents {
        Cents(self.discounts.iter().map(|discount| discount.amount.0).sum())
    }

    /// What is to be paid: goods less discounts. (The source never takes the discount off, nor adds the added item; its
    /// payment of 926.99 shows what is meant.)
    pub fn total(&self) -> Cents {
        Cents(self.goods().0.saturating_sub(self.discount().0))
    }

    /// Whether the step may be taken now.
    pub fn decide(&self, step: &Step) -> Result<(), Refusal> {
        step.check()?;
        let needs = match step {
            Step::CreateOrder { .. } if self.status != Status::None => return Err(Refusal::Exists),
            Step::CreateOrder { .. } => return Ok(()),
            Step::ConfirmOrder { .. } => Status::Paid,
            _ => Status::Created,
        };
        if self.status == Status::None {
            return Err(Refusal::Missing);
        }
        if self.status != needs {
            return Err(Refusal::Stage { is: self.status.name(), step: step.command(), needs: needs.name() });
        }
        let full = |what, max| {
            Err(Refusal::Malformed(format!("the order has {max} {what} already, which is all it can have")))
        };
        match step {
            Step::AddItem(_) if self.items.len() >= ITEMS_MAX => full("items", ITEMS_MAX),
            Step::ApplyDiscount(_) if self.discounts.len() >= DISCOUNTS_MAX => full("discounts", DISCOUNTS_MAX),
            Step::ApplyDiscount(discount) => {
                let (goods, asked) = (self.goods(), Cents(self.discount().0 + discount.amount.0));
                if asked > goods { Err(Refusal::Discount { goods, asked }) } else { Ok(()) }
            }
            Step::ProcessPayment { amount, .. } if *amount != self.total() => {
                Err(Refusal::Due { due: self.total(), asked: *amount })
            }
            _ => Ok(()),
        }
    }

    /// Takes a step that was decided.
    pub fn apply(&mut self, step: &Step) {
        self.sequence += 1;
        match step.clone() {
            Step::CreateOrder { user_id, items } => {
                (self.status, self.user_id, self.items) = (Status::Created, user_id, items);
            }
            Step::AddItem(item) => self.items.push(item),
            Step::ApplyDiscount(discount) => self.discounts.push(discount),
            Step::ProcessPayment { payment_method, amount } => {
                (self.status, self.payment) = (Status::Paid, Some((payment_method, amount)));
            }
            Step::ConfirmOrder { estimated_delivery } => {
                (self.status, self.estimated_delivery) = (Status::Confirmed, estimated_delivery);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cents(text: &str) -> Cents {
        text.parse().unwrap()
    }

    /// The five steps of the scenario.
    pub(crate) fn five() -> [Step; 5] {
        let item = |sku: &str, price| Item { sku: sku.into(), qty: 1, price: cents(price) };
        [
            Step::CreateOrder { user_id: "user_456".into(), items: vec![item("LAPTOP_001", "999.99")] },
            Step::AddItem(item("MOUSE_001", "29.99")),
            Step::ApplyDiscount(Discount { code: "SAVE10".into(), amount: cents("102.99") }),
            Step::ProcessPayment { payment_method: "credit_card".into(), amount: cents("926.99") },
            Step::ConfirmOrder { estimated_delivery: "2024-12-15".into() },
        ]
    }

    #[test]
    fn the_five_commands_make_a_confirmed_order_of_two_items_for_926_99() {
        let mut order = Order::default();
        for step in five() {
            order.decide(&step).unwrap();
            order.apply(&step);
        }
        assert_eq!((order.sequence, order.status, order.items.len()), (5, Status::Confirmed, 2));
        assert_eq!((order.total(), order.payment.clone().unwrap().1), (cents("926.99"), cents("926.99")));
    }

    #[test]
    fn steps_out_of_their_order_and_wrong_amounts_are_refused_and_say_why() {
        let [create, add, discount, pay, confirm] = five();
        let mut order = Order::default();
        assert_eq!(order.decide(&add), Err(Refusal::Missing));
        order.apply(&create);
        assert_eq!(order.decide(&create), Err(Refusal::Exists));
        let early = order.decide(&confirm).unwrap_err();
        assert_eq!(early.to_string(), "the order is created, and confirm_order needs one that is paid");
        assert_eq!(order.decide(&pay), Err(Refusal::Due { due: cents("999.99"), asked: cents("926.99") }));
        let all = Step::ApplyDiscount(Discount { code: "ALL".into(), amount: cents("1000") });
        assert_eq!(order.decide(&all), Err(Refusal::Discount { goods: cents("999.99"), asked: cents("1000") }));
        for step in [&add, &discount, &pay] {
            order.decide(step).unwrap();
            order.apply(step);
        }
        assert!(
            matches!(order.decide(&add), Err(Refusal::Stage { is: "paid", .. })),
            "what is paid for does not change"
        );
    }

    proptest! {
        /// Whatever is asked for in whatever order, an order that is confirmed was paid exactly what it costs.
        #[test]
        fn a_confirmed_order_was_paid_in_full(picks in proptest::collection::vec((0usize..5, 0u64..200_000), 0..40)) {
            let mut order = Order::default();
            for (pick, amount) in picks {
                let mut step = five()[pick].clone();
                match &mut step {
                    Step::ApplyDiscount(discount) => discount.amount = Cents(amount),
                    Step::ProcessPayment { amount: asked, .. } if amount % 2 == 0 => *asked = order.total(),
                    _ => {}
                }
                let before = order.sequence;
                if order.decide(&step).is_ok() {
                    order.apply(&step);
                    prop_assert_eq!(order.sequence, before + 1);
                }
            }
            if order.status == Status::Confirmed {
                prop_assert_eq!(order.payment.clone().map(|p| p.1), Some(order.total()));
            }
            prop_assert!(order.discount() <= order.goods());
        }
    }
}
