//! The resolver of the scorer, and what it says of one address record.

#[cfg(test)]
pub mod fake;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use mail_auth::MessageAuthenticator;

use crate::Error;

/// How long an answer is kept, whatever it says itself: what is put right somewhere counts soon.
pub const KEPT_AT_MOST: Duration = Duration::from_secs(600);
/// And how long that there is none, at least.
pub const KEPT_AT_LEAST: Duration = Duration::from_secs(30);

/// How long a question may take that is waited for by nobody any more.
pub const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks `servers`; with none, those of the system.
///
/// # Errors
/// When the system's resolver settings cannot be read and none are given.
pub fn resolver(servers: &[SocketAddr]) -> Result<Arc<MessageAuthenticator>, Error> {
    let text = |error: NetError| Error::Resolver(error.to_string());
    let (config, mut options) = if servers.is_empty() {
        hickory_resolver::system_conf::read_system_conf().map_err(text)?
    } else {
        (
            ResolverConfig::from_name_servers(servers.iter().map(name_server).collect()),
            ResolverOpts::default(),
        )
    };
    options.cache_size = 16_384;
    options.timeout = Duration::from_secs(1);
    options.attempts = 2;
    options.positive_max_ttl = Some(KEPT_AT_MOST);
    options.negative_max_ttl = Some(KEPT_AT_MOST);
    Ok(Arc::new(MessageAuthenticator::new(config, options).map_err(text)?))
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

/// What DNS says of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its addresses; none where there is no such name.
    Addresses(Arc<[Ipv4Addr]>),
    /// Nobody answers, or they cannot say.
    Failed,
}

/// Whether our own servers say anything at all. What others do not answer them says nothing of that.
pub async fn is_there(resolver: &MessageAuthenticator) -> bool {
    let resolver = resolver.resolver();
    // Every resolver knows the root. One that has answered lately may be gone by now, so this is not to be remembered.
    resolver.clear_lookup_cache(Name::root(), RecordType::NS);
    let asked = tokio::time::timeout(LOOK_UP_TIMEOUT, resolver.lookup(Name::root(), RecordType::NS));
    matches!(asked.await, Ok(Ok(_) | Err(NetError::Dns(_))))
}

/// The A records of `name` (without the final dot), and how long the answer holds. Asked anew each time: who asks keeps the
/// answer, or forgets it.
pub async fn addresses(resolver: &MessageAuthenticator, name: &str) -> (Answer, Duration) {
    let (resolver, name) = (resolver.resolver(), format!("{name}."));
    resolver.clear_lookup_cache(&*name, RecordType::A);
    match resolver.ipv4_lookup(name).await {
        Ok(lookup) => {
            let found = lookup.answers().iter().filter_map(|record| match &record.data {
                RData::A(a) => Some(a.0),
                _ => None,
            });
            let holds = lookup.valid_until().saturating_duration_since(Instant::now());
            (Answer::Addresses(found.collect()), holds.clamp(KEPT_AT_LEAST, KEPT_AT_MOST))
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none)))
            if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
        {
            let holds = Duration::from_secs(none.negative_ttl.unwrap_or_default().into());
            (Answer::Addresses(Arc::default()), holds.clamp(KEPT_AT_LEAST, KEPT_AT_MOST))
        }
        Err(_) => (Answer::Failed, KEPT_AT_LEAST),
    }
}
