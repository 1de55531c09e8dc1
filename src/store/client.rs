//! The part of the Redis client library that features use: types of keys, arguments and replies, and the commands that
//! their stores send through [`Keyspace`](super::Keyspace) and [`Pool`](crate::redis::Pool).
//!
//! Features import it from here and never name the library, so that a change of library stays within `store/` and
//! `redis/`.

pub(crate) use fred::{
    clients::Client,
    error::Error as ClientError,
    interfaces::{
        ClientLike, HashesInterface, KeysInterface, ListInterface, SortedSetsInterface,
        StreamsInterface,
    },
    types::{ClusterHash, CustomCommand, Expiration, FromValue, InfoKind, Key, SetOptions, Value},
};
