//! Ingresses: adapters that turn a protocol into legs.
