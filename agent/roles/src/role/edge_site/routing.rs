//! Which region takes a request: the nearest healthy one of the user's cloud, else the nearest healthy one of any. Pure: what was seen
//! comes in, decisions go out.

/// What an observation changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// It has just been taken for lost.
    Lost,
    /// It serves again.
    Back,
}

#[derive(Debug, Clone)]
struct Region {
    cloud: String,
    healthy: bool,
    /// Failures in a row of a healthy one, answered probes in a row of a lost one.
    streak: u32,
}

/// What one site knows of all regions.
#[derive(Debug, Clone)]
pub(super) struct Routing {
    /// The nearest first.
    regions: Vec<Region>,
    lost_after: u32,
    back_after: u32,
}

impl Routing {
    /// The clouds of the regions, the nearest first; both numbers > 0.
    pub(super) fn new(clouds: impl IntoIterator<Item = String>, lost_after: u32, back_after: u32) -> Self {
        let region = |cloud| Region { cloud, healthy: true, streak: 0 };
        Self { regions: clouds.into_iter().map(region).collect(), lost_after, back_after }
    }

    /// The region for a user of this cloud (empty: of none). After `failed`, one of another cloud where there is one: what took a
    /// region may have taken its cloud. When all are lost, the nearest is tried all the same: refusing everything would help nobody.
    pub(super) fn pick(&self, cloud: &str, failed: Option<usize>) -> usize {
        let fits = |keep: &dyn Fn(usize, &Region) -> bool| {
            let mut all = self.regions.iter().enumerate();
            all.find(|(index, region)| Some(*index) != failed && keep(*index, region)).map(|(index, _)| index)
        };
        let failed_cloud = failed.map(|index| self.regions[index].cloud.as_str());
        let elsewhere = |region: &Region| failed_cloud != Some(region.cloud.as_str());
        let own = fits(&|_, region| region.healthy && region.cloud == cloud && elsewhere(region));
        let any = || fits(&|_, region| region.healthy && elsewhere(region));
        let same_cloud = || fits(&|_, region| region.healthy);
        own.or_else(any).or_else(same_cloud).or_else(|| fits(&|_, _| true)).unwrap_or(0)
    }

    /// A request was answered, or not. What a lost region still answers was asked of it before.
    pub(super) fn report(&mut self, index: usize, ok: bool) -> Change {
        let (region, lost_after) = (&mut self.regions[index], self.lost_after);
        match (region.healthy, ok) {
            (true, true) => region.streak = 0,
            (true, false) => {
                region.streak += 1;
                if region.streak >= lost_after {
                    (region.healthy, region.streak) = (false, 0);
                    return Change::Lost;
                }
            }
            (false, _) => {}
        }
        Change::None
    }

    /// A probe was answered, or not.
    pub(super) fn probed(&mut self, index: usize, ok: bool) -> Change {
        let (region, back_after) = (&mut self.regions[index], self.back_after);
        match (region.healthy, ok) {
            (true, _) => return self.report(index, ok),
            (false, false) => region.streak = 0,
            (false, true) => {
                region.streak += 1;
                if region.streak >= back_after {
                    (region.healthy, region.streak) = (true, 0);
                    return Change::Back;
                }
            }
        }
        Change::None
    }

    /// How many are healthy.
    pub(super) fn healthy(&self) -> usize {
        self.regions.iter().filter(|region| region.healthy).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The nearest first.
    const WORLD: [&str; 5] = ["azure", "aws", "gcp", "aws", "azure"];

    fn routing() -> Routing {
        Routing::new(WORLD.map(String::from), 3, 2)
    }

    fn lose(routing: &mut Routing, index: usize) {
        for _ in 0..3 {
            routing.report(index, false);
        }
    }

    #[test]
    fn a_user_goes_to_the_nearest_healthy_region_of_its_cloud_and_then_of_any() {
        let mut routing = routing();
        assert_eq!(["aws", "gcp", "azure", "", "nobodys"].map(|cloud| routing.pick(cloud, None)), [1, 2, 0, 0, 0]);
        lose(&mut routing, 1);
        assert_eq!(routing.pick("aws", None), 3, "farther, but its own cloud");
        lose(&mut routing, 3);
        assert_eq!(routing.pick("aws", None), 0, "its cloud is lost");
        (0..5).for_each(|index| lose(&mut routing, index));
        assert_eq!(routing.pick("aws", None), 0, "all are lost");
    }

    #[test]
    fn after_a_failure_another_cloud_is_tried_first() {
        let mut routing = routing();
        assert_eq!(routing.pick("aws", Some(1)), 0);
        assert_eq!(routing.pick("azure", Some(0)), 1);
        lose(&mut routing, 0);
        lose(&mut routing, 2);
        lose(&mut routing, 4);
        assert_eq!(routing.pick("aws", Some(1)), 3, "the others are lost");
        assert_eq!(Routing::new(["aws".to_string()], 3, 2).pick("aws", Some(0)), 0, "there is no other");
    }

    #[test]
    fn a_region_is_lost_after_failures_in_a_row_and_back_after_probes_in_a_row() {
        let mut routing = routing();
        let told: Vec<Change> = [false, false, true, false, false, false, false].map(|ok| routing.report(1, ok)).into();
        assert_eq!(told.iter().position(|change| *change == Change::Lost), Some(5));
        assert_eq!(told.iter().filter(|change| **change == Change::Lost).count(), 1);
        assert_eq!(routing.report(1, true), Change::None, "a late answer is no return");
        let told: Vec<Change> = [true, false, true, true, true].map(|ok| routing.probed(1, ok)).into();
        assert_eq!(told.iter().position(|change| *change == Change::Back), Some(3));
        assert_eq!(routing.healthy(), 5);
    }

    proptest! {
        /// Whatever was seen: while any region is healthy a healthy one is picked, and never the one that has just failed while
        /// there is another.
        #[test]
        fn no_request_goes_to_a_lost_region_while_another_is_healthy(
            seen in proptest::collection::vec((0usize..5, any::<bool>(), any::<bool>()), 0..80),
            cloud in prop_oneof![Just("aws"), Just("gcp"), Just("")], failed in proptest::option::of(0usize..5),
        ) {
            let mut routing = routing();
            for (index, probe, ok) in seen {
                if probe { routing.probed(index, ok) } else { routing.report(index, ok) };
            }
            let picked = routing.pick(cloud, failed);
            let others = routing.regions.iter().enumerate().filter(|(i, region)| region.healthy && Some(*i) != failed).count();
            if others > 0 {
                prop_assert!(routing.regions[picked].healthy);
            }
            prop_assert_ne!(Some(picked), failed);
        }
    }
}
