//! Where cloud regions and cities are, and how long light needs between them.
//!
//! Owns a table of places to a tenth of a degree, which is some 10 km, or a twentieth of a millisecond. Regions stand where their
//! providers say that they are (the metropolitan area of "Locations" in the public lists of AWS, Google Cloud and Azure), cities at
//! their centres. Deliberately not here: what a network adds to light's time ([`crate::plan::links`]).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Micros;

/// Label of an agent's place: a name of the table, or of the scenario's own regions.
pub const REGION: &str = "region";
/// Label of an agent's cloud.
pub const CLOUD: &str = "cloud";
/// Mean radius of the Earth, km (IUGG).
const EARTH_KM: f64 = 6371.0088;
/// Light in fibre, km/s: two thirds of its speed in vacuum, the refractive index of silica being about 1.5.
const FIBRE_KM_PER_S: f64 = 299_792.458 * 2.0 / 3.0;

/// A place on Earth, degrees.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Coordinates {
    /// North of the equator; south is negative.
    #[schemars(range(min = -90, max = 90))]
    pub lat: f64,
    /// East of Greenwich; west is negative.
    #[schemars(range(min = -180, max = 180))]
    pub lon: f64,
}

impl Coordinates {
    /// Along the great circle, km, by the haversine formula, which is exact for near points too.
    pub fn km_to(self, other: Self) -> f64 {
        let half = |a: f64, b: f64| ((b - a).to_radians() / 2.0).sin().powi(2);
        let cosines = self.lat.to_radians().cos() * other.lat.to_radians().cos();
        let h = half(self.lat, other.lat) + cosines * half(self.lon, other.lon);
        2.0 * EARTH_KM * h.clamp(0.0, 1.0).sqrt().asin()
    }
}

/// One way through a fibre as long as this.
pub fn through_fibre(km: f64) -> Micros {
    Micros((km / FIBRE_KM_PER_S * 1e6).round() as u64)
}

/// A place of the table.
pub fn known(name: &str) -> Option<Coordinates> {
    REGIONS.iter().find(|(known, ..)| *known == name).map(|(_, lat, lon)| Coordinates { lat: *lat, lon: *lon })
}

/// Every name of the table.
pub fn names<'a>() -> impl Iterator<Item = &'a str> {
    REGIONS.iter().map(|(name, ..)| *name)
}

/// Name, latitude, longitude.
const REGIONS: &[(&str, f64, f64)] = &[
    // AWS
    ("us-east-1", 39.0, -77.5),
    ("us-east-2", 40.0, -83.0),
    ("us-west-1", 37.4, -121.9),
    ("us-west-2", 45.8, -119.7),
    ("ca-central-1", 45.5, -73.6),
    ("sa-east-1", -23.5, -46.6),
    ("eu-west-1", 53.3, -6.3),
    ("eu-west-2", 51.5, -0.1),
    ("eu-west-3", 48.9, 2.4),
    ("eu-central-1", 50.1, 8.7),
    ("eu-north-1", 59.3, 18.1),
    ("eu-south-1", 45.5, 9.2),
    ("me-south-1", 26.1, 50.6),
    ("af-south-1", -33.9, 18.4),
    ("ap-south-1", 19.1, 72.9),
    ("ap-southeast-1", 1.4, 103.8),
    ("ap-southeast-2", -33.9, 151.2),
    ("ap-northeast-1", 35.7, 139.7),
    ("ap-northeast-2", 37.6, 127.0),
    ("ap-east-1", 22.3, 114.2),
    // Google Cloud
    ("us-central1", 41.3, -95.9),
    ("us-east1", 33.2, -80.0),
    ("us-east4", 39.0, -77.5),
    ("us-west1", 45.6, -121.2),
    ("us-west2", 34.1, -118.2),
    ("northamerica-northeast1", 45.5, -73.6),
    ("southamerica-east1", -23.5, -46.6),
    ("europe-west1", 50.4, 3.8),
    ("europe-west2", 51.5, -0.1),
    ("europe-west3", 50.1, 8.7),
    ("europe-west4", 53.4, 6.8),
    ("europe-north1", 60.6, 27.2),
    ("asia-south1", 19.1, 72.9),
    ("asia-southeast1", 1.3, 103.7),
    ("asia-east1", 24.1, 120.5),
    ("asia-east2", 22.3, 114.2),
    ("asia-northeast1", 35.7, 139.7),
    ("australia-southeast1", -33.9, 151.2),
    // Azure
    ("eastus", 37.4, -79.8),
    ("eastus2", 36.7, -78.4),
    ("centralus", 41.6, -93.6),
    ("southcentralus", 29.4, -98.5),
    ("westus", 37.8, -122.4),
    ("westus2", 47.2, -119.9),
    ("canadacentral", 43.7, -79.4),
    ("brazilsouth", -23.6, -46.6),
    ("northeurope", 53.3, -6.3),
    ("westeurope", 52.4, 4.9),
    ("uksouth", 51.5, -0.1),
    ("francecentral", 48.9, 2.4),
    ("germanywestcentral", 50.1, 8.7),
    ("swedencentral", 60.7, 17.1),
    ("uaenorth", 25.3, 55.3),
    ("southafricanorth", -26.2, 28.0),
    ("centralindia", 18.5, 73.9),
    ("southeastasia", 1.3, 103.8),
    ("eastasia", 22.3, 114.2),
    ("japaneast", 35.7, 139.7),
    ("koreacentral", 37.6, 127.0),
    ("australiaeast", -33.9, 151.2),
    // Cities, for edge sites and offices.
    ("amsterdam", 52.4, 4.9),
    ("bangalore", 13.0, 77.6),
    ("chicago", 41.9, -87.6),
    ("dublin", 53.3, -6.3),
    ("frankfurt", 50.1, 8.7),
    ("hong-kong", 22.3, 114.2),
    ("johannesburg", -26.2, 28.0),
    ("london", 51.5, -0.1),
    ("los-angeles", 34.1, -118.2),
    ("madrid", 40.4, -3.7),
    ("mexico-city", 19.4, -99.1),
    ("mumbai", 19.1, 72.9),
    ("new-york", 40.7, -74.0),
    ("paris", 48.9, 2.4),
    ("san-francisco", 37.8, -122.4),
    ("sao-paulo", -23.5, -46.6),
    ("seattle", 47.6, -122.3),
    ("seoul", 37.6, 127.0),
    ("singapore", 1.3, 103.8),
    ("stockholm", 59.3, 18.1),
    ("sydney", -33.9, 151.2),
    ("tokyo", 35.7, 139.7),
    ("toronto", 43.7, -79.4),
    ("zurich", 47.4, 8.5),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn km(a: &str, b: &str) -> f64 {
        known(a).unwrap().km_to(known(b).unwrap())
    }

    /// Distances as published calculators of great circles give them.
    #[test]
    fn distances_are_those_of_the_great_circle() {
        for (a, b, published) in [
            ("london", "new-york", 5_570.0),
            ("singapore", "london", 10_850.0),
            ("san-francisco", "tokyo", 8_270.0),
            ("sydney", "johannesburg", 11_040.0),
        ] {
            let found = km(a, b);
            assert!((found / published - 1.0).abs() < 0.01, "{a}..{b}: {found} km");
        }
        assert_eq!(km("us-east-1", "us-east-1"), 0.0);
    }

    #[test]
    fn light_needs_five_microseconds_for_a_kilometre_of_fibre() {
        assert_eq!(through_fibre(1_000.0), Micros(5_003));
        assert_eq!(through_fibre(0.0), Micros(0));
    }

    #[test]
    fn every_name_stands_once_and_is_a_place_on_earth() {
        let mut seen = std::collections::BTreeSet::new();
        for (name, lat, lon) in REGIONS {
            assert!(seen.insert(name), "{name}");
            assert!(lat.abs() <= 90.0 && lon.abs() <= 180.0, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_distance_is_longer_than_half_way_round(a in (-90f64..90.0, -180f64..180.0), b in (-90f64..90.0, -180f64..180.0)) {
            let place = |(lat, lon)| Coordinates { lat, lon };
            let there = place(a).km_to(place(b));
            prop_assert!((0.0..=20_016.0).contains(&there), "{}", there);
            prop_assert!((there - place(b).km_to(place(a))).abs() < 1e-6);
        }
    }
}
