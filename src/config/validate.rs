//! From the raw file to a `Config`: every key looked at, every problem collected.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemas::{Domain, Mailbox};

use super::{Config, Delivery, LogFormat, Problem, log, raw, scorer, statistics};

/// Collects problems while the rest is still checked.
pub(super) struct Checker {
    problems: Vec<Problem>,
}

impl Checker {
    pub(super) fn problem(
        &mut self,
        key: impl Into<String>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.problems.push(Problem::new(key, message, fix));
    }

    fn duration(&mut self, key: &str, text: Option<&str>, default: Duration) -> Duration {
        let Some(text) = text else { return default };
        match humantime::parse_duration(text) {
            Ok(duration) => duration,
            Err(_) => {
                self.problem(
                    key,
                    format!("`{text}` is no duration"),
                    "write a number and a unit, as \"5s\", \"10m\" or \"2h\"",
                );
                default
            }
        }
    }

    fn socket(&mut self, key: &str, text: &str) -> SocketAddr {
        match text.parse() {
            Ok(address) => address,
            Err(_) => {
                self.problem(
                    key,
                    format!("`{text}` is no address and port"),
                    "write it as \"0.0.0.0:587\" or \"[::]:587\"",
                );
                SocketAddr::from(([127, 0, 0, 1], 0))
            }
        }
    }

    pub(super) fn pem_file(&mut self, key: &str, path: &Path) {
        match std::fs::read_to_string(path) {
            Err(error) => self.problem(
                key,
                format!("{} cannot be read: {error}", path.display()),
                "give the path of a PEM file that mailweir may read",
            ),
            Ok(text) if !text.contains("-----BEGIN ") => {
                self.problem(
                    key,
                    format!("{} is no PEM file", path.display()),
                    "convert it with `openssl x509` or `openssl pkcs8` to PEM",
                );
            }
            Ok(_) => {}
        }
    }

    fn mailbox(&mut self, key: &str, text: &str) -> Option<Mailbox> {
        match Mailbox::parse(text) {
            Ok(mailbox) => Some(mailbox),
            Err(error) => {
                self.problem(
                    key,
                    format!("`{text}` is no address: {error}"),
                    "write it as \"abuse@hoster.example\"",
                );
                None
            }
        }
    }
}

/// `served`: whether there can be a process that answers there.
fn public_url(check: &mut Checker, text: Option<String>, served: bool) -> Option<String> {
    const KEY: &str = "reporter.public_url";
    let text = text?;
    let url = text.trim_end_matches('/');
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let is_url = host.is_some_and(|host| {
        !host.is_empty()
            && !host.starts_with('/')
            && url.bytes().all(|b| b.is_ascii_graphic() && !b"<>\"?#".contains(&b))
    });
    if !is_url {
        check.problem(
            KEY,
            format!("`{text}` is no address of a web server"),
            "write it as \"https://mailweir.hoster.example\"",
        );
    } else if !served {
        check.problem(
            KEY,
            "nothing would answer there: there is no [http]",
            "add [http] with bind = \"127.0.0.1:8025\" and a proxy with TLS in front of it, or remove public_url",
        );
    }
    Some(url.to_owned())
}

pub(super) fn validate(file: raw::File) -> Result<Config, Vec<Problem>> {
    let mut check = Checker { problems: Vec::new() };
    let node = node_name(&mut check, file.node);
    let data_dir = file.data_dir.unwrap_or_else(|| PathBuf::from("/var/lib/mailweir"));
    let hostname = hostname(&mut check, file.ingress.hostname);
    let tls = file.tls.map(|tls| ingress::TlsFiles { certificate: tls.certificate, key: tls.key });
    check_tls_files(&mut check, tls.as_ref());
    let may_go_without = file.log.engine.as_deref() == Some("kafka");
    let listeners = listeners(&mut check, &file.ingress.listener, tls.is_some(), may_go_without);
    let engine = log::engine(&mut check, file.log);
    let delivery = delivery(&mut check, file.delivery);
    let dns_lists = scorer::dns_lists(&mut check, file.scorer.dns_list);
    let alignment = scorer::alignment(&mut check, &file.scorer.alignment);
    let abuse_address =
        file.reporter.abuse_address.and_then(|text| check.mailbox("reporter.abuse_address", &text));
    let report_from = file.reporter.report_from.and_then(|text| check.mailbox("reporter.report_from", &text));
    let report_from = report_from.or_else(|| Mailbox::parse(&format!("postmaster@{hostname}")).ok());
    let verdict_timeout = check.duration(
        "ingress.verdict_timeout",
        file.ingress.verdict_timeout.as_deref(),
        Duration::from_secs(5),
    );
    let keep =
        check.duration("statistics.keep", file.statistics.keep.as_deref(), Duration::from_secs(90 * 86_400));
    let clickhouse = statistics::clickhouse(&file.statistics, keep).unwrap_or_else(|problems| {
        check.problems.extend(problems);
        None
    });
    let http = file.http.map(|http| check.socket("http.bind", &http.bind));
    let public_url = public_url(&mut check, file.reporter.public_url, may_go_without || http.is_some());
    let log_format = log_format(&mut check, file.logging.format.as_deref());
    if !check.problems.is_empty() {
        return Err(check.problems);
    }
    let Some(report_from) = report_from else {
        return Err(vec![Problem::new("ingress.hostname", "cannot stand in an address", "give a host name")]);
    };
    Ok(Config {
        cluster_key_file: file.cluster_key_file.unwrap_or_else(|| data_dir.join("cluster.key")),
        database: file.statistics.database.unwrap_or_else(|| data_dir.join("statistics.sqlite")),
        clickhouse,
        node,
        hostname,
        data_dir,
        log: engine,
        listeners,
        tls,
        verdict_timeout,
        max_lag: file.ingress.max_lag.unwrap_or(50_000),
        max_connections: file.ingress.max_connections.unwrap_or(20_000),
        scorer_slots: file.scorer.slots.unwrap_or(1).max(1),
        model: file.scorer.model,
        dns_lists,
        alignment,
        delivery,
        abuse_address,
        report_from,
        public_url,
        keep_statistics: keep,
        http,
        log_format,
        log_filter: file.logging.filter.unwrap_or_else(|| "info".into()),
    })
}

fn node_name(check: &mut Checker, node: Option<String>) -> String {
    let node = node.unwrap_or_else(|| "node1".into());
    let good = !node.is_empty()
        && node.len() <= 64
        && node.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !good {
        check.problem(
            "node",
            format!("`{node}` is no node name"),
            "use letters, digits, `-`, `_` and `.`, at most 64",
        );
    }
    node
}

fn hostname(check: &mut Checker, hostname: Option<String>) -> String {
    let from_system = || {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        if Domain::parse(&name).is_ok() { name } else { "localhost".into() }
    };
    let hostname = hostname.unwrap_or_else(from_system);
    match Domain::parse(&hostname) {
        Ok(domain) if domain.literal_ip().is_none() => domain.to_string(),
        _ => {
            check.problem(
                "ingress.hostname",
                format!("`{hostname}` is no host name"),
                "give the fully qualified name of this server, as \"smtp.hoster.example\"",
            );
            hostname
        }
    }
}

fn check_tls_files(check: &mut Checker, tls: Option<&ingress::TlsFiles>) {
    for (key, path) in tls.iter().flat_map(|t| [("tls.certificate", &t.certificate), ("tls.key", &t.key)]) {
        check.pem_file(key, path);
    }
}

/// `may_go_without`: a process of a Kafka cluster need not take in mail; ingress says so itself when it has to.
fn listeners(
    check: &mut Checker,
    raw: &[raw::Listener],
    has_tls: bool,
    may_go_without: bool,
) -> Vec<ingress::ListenerConfig> {
    let mut listeners: Vec<ingress::ListenerConfig> = Vec::new();
    for (index, listener) in raw.iter().enumerate() {
        let key = |name: &str| format!("ingress.listener[{index}].{name}");
        let bind = check.socket(&key("bind"), &listener.bind);
        let tls = match listener.tls.as_deref() {
            None | Some("starttls") => ingress::ListenerTls::StartTls,
            Some("implicit") => ingress::ListenerTls::Implicit,
            Some("none") => ingress::ListenerTls::None,
            Some(other) => {
                check.problem(
                    key("tls"),
                    format!("`{other}` is no kind of TLS"),
                    "use \"starttls\", \"implicit\" or \"none\"",
                );
                ingress::ListenerTls::None
            }
        };
        if tls != ingress::ListenerTls::None && !has_tls {
            check.problem(
                key("tls"),
                "needs a certificate",
                "set [tls] certificate and key, or tls = \"none\" for this listener",
            );
        }
        let proxy_protocol_from = raw::ip_networks(&listener.proxy_protocol_from).unwrap_or_else(|bad| {
            check.problem(
                key("proxy_protocol_from"),
                format!("`{bad}` is no address range"),
                "write it as \"192.0.2.0/28\"",
            );
            Vec::new()
        });
        if bind.port() != 0 && listeners.iter().any(|other| other.bind == bind) {
            check.problem(
                key("bind"),
                format!("{bind} stands twice"),
                "give every listener its own address and port",
            );
        }
        listeners.push(ingress::ListenerConfig {
            bind,
            tls,
            proxy_protocol_from,
            auth_without_tls: listener.auth_without_tls,
            optional: false,
        });
    }
    if listeners.is_empty() {
        if has_tls {
            return default_listeners();
        }
        if may_go_without {
            return Vec::new();
        }
        check.problem(
            "ingress.listener",
            "there is no listener, and the default ones (587 with STARTTLS, 465 with TLS) need a certificate",
            "set [tls] certificate and key, or add [[ingress.listener]] with bind and tls = \"none\"",
        );
    }
    listeners
}

/// The ports of submission (RFC 8314) on every address, of IPv6 where the machine has it.
fn default_listeners() -> Vec<ingress::ListenerConfig> {
    let of = |ip: IpAddr, port, tls| ingress::ListenerConfig {
        bind: SocketAddr::new(ip, port),
        tls,
        proxy_protocol_from: Vec::new(),
        auth_without_tls: false,
        optional: ip.is_ipv6(),
    };
    let families = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
    let of_port = |(port, tls)| families.map(|ip| of(ip, port, tls));
    [(587, ingress::ListenerTls::StartTls), (465, ingress::ListenerTls::Implicit)]
        .into_iter()
        .flat_map(of_port)
        .collect()
}

fn delivery(check: &mut Checker, raw: raw::Delivery) -> Delivery {
    if let Some(host) = &raw.relay_host
        && host.rsplit_once(':').is_none_or(|(name, port)| name.is_empty() || port.parse::<u16>().is_err())
    {
        check.problem(
            "delivery.relay_host",
            format!("`{host}` is no host and port"),
            "write it as \"127.0.0.1:2600\"",
        );
    }
    let dns_servers =
        raw.dns_servers.iter().enumerate().map(|(index, text)| dns_server(check, index, text)).collect();
    let retry = raw.retry.unwrap_or_default();
    let retry = retry
        .iter()
        .map(|text| check.duration("delivery.retry", Some(text), Duration::from_secs(300)))
        .collect::<Vec<_>>();
    if retry.iter().any(Duration::is_zero) {
        check.problem("delivery.retry", "a delay of zero would hammer the receiver", "use at least \"1s\"");
    }
    // Read as delivery will read it: what keeps it from starting is told here.
    if let Some(file) = &raw.tls_roots_file
        && let Err(error) = delivery::tls::ClientTls::new(Some(file))
    {
        check.problem(
            "delivery.tls_roots_file",
            error.to_string(),
            "give a PEM file of root certificates that mailweir may read",
        );
    }
    let connect_timeout = raw
        .connect_timeout
        .map(|text| check.duration("delivery.connect_timeout", Some(&text), Duration::from_secs(30)));
    let data_timeout = raw
        .data_timeout
        .map(|text| check.duration("delivery.data_timeout", Some(&text), Duration::from_secs(600)));
    Delivery {
        relay_host: raw.relay_host,
        dns_servers,
        smtp_port: raw.smtp_port.unwrap_or(25),
        tls_roots_file: raw.tls_roots_file,
        connect_timeout,
        data_timeout,
        retry,
        delay_notice_after: check.duration(
            "delivery.delay_notice_after",
            raw.delay_notice_after.as_deref(),
            Duration::from_secs(4 * 3600),
        ),
        max_in_flight: raw.max_in_flight,
        connections_per_site: raw.connections_per_site,
    }
}

fn dns_server(check: &mut Checker, index: usize, text: &str) -> SocketAddr {
    let with_port = text.parse::<std::net::IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    with_port.or_else(|_| text.parse()).unwrap_or_else(|_| {
        check.problem(
            format!("delivery.dns_servers[{index}]"),
            format!("`{text}` is no address"),
            "write it as \"192.0.2.53\" or \"127.0.0.1:5353\"",
        );
        SocketAddr::from(([127, 0, 0, 1], 53))
    })
}

fn log_format(check: &mut Checker, text: Option<&str>) -> LogFormat {
    match text {
        None | Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(other) => {
            check.problem("logging.format", format!("`{other}` is no format"), "use \"text\" or \"json\"");
            LogFormat::Text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_listeners_are_on_both_kinds_of_address_and_ipv6_may_be_missing() {
        let all = default_listeners();
        let shown: Vec<String> =
            all.iter().map(|it| format!("{} {:?} {}", it.bind, it.tls, it.optional)).collect();
        assert_eq!(
            shown,
            [
                "0.0.0.0:587 StartTls false",
                "[::]:587 StartTls true",
                "0.0.0.0:465 Implicit false",
                "[::]:465 Implicit true"
            ]
        );
    }
}
