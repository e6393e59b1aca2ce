//! The reference system's services: Config, Events, Telemetry, Registry.
