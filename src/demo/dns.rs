//! The demo's name server: a few records over UDP on 127.0.0.1, so that the demo needs no network and still goes the
//! whole way through MX and DKIM look-ups.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, RwLock};

use anyhow::Context as _;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, MX, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

/// Records by name (lower case, with the final dot).
type Zone = HashMap<String, Vec<RData>>;

/// The name server; clones share its records.
#[derive(Clone, Default)]
pub struct NameServer {
    zone: Arc<RwLock<Zone>>,
}

impl NameServer {
    /// Serves on a free port of 127.0.0.1 until `shutdown`.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(&self, shutdown: CancellationToken) -> anyhow::Result<SocketAddr> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.context("the demo's name server")?;
        let address = socket.local_addr()?;
        let server = self.clone();
        tokio::spawn(async move {
            let mut packet = [0u8; 1500];
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    Ok((len, client)) = socket.recv_from(&mut packet) => {
                        if let Some(answer) = server.answer(&packet[..len]) {
                            // A lost answer is asked for again.
                            let _ = socket.send_to(&answer, client).await;
                        }
                    }
                }
            }
        });
        Ok(address)
    }

    /// # Errors
    /// When `name` is no domain name.
    pub fn add_mx(&self, name: &str, host: &str) -> anyhow::Result<()> {
        self.add(name, RData::MX(MX::new(10, Name::from_ascii(host)?)));
        Ok(())
    }

    pub fn add_a(&self, name: &str, address: Ipv4Addr) {
        self.add(name, RData::A(A(address)));
    }

    pub fn add_txt(&self, name: &str, text: &str) {
        let strings =
            text.as_bytes().chunks(255).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
        self.add(name, RData::TXT(TXT::new(strings)));
    }

    fn add(&self, name: &str, data: RData) {
        let mut zone = self.zone.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        zone.entry(format!("{}.", name.trim_end_matches('.').to_ascii_lowercase())).or_default().push(data);
    }

    fn answer(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let question = Message::from_vec(packet).ok()?;
        let query = question.queries.first()?;
        let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
        answer.metadata.authoritative = true;
        answer.metadata.recursion_desired = question.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        let zone = self.zone.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        match zone.get(&query.name().to_ascii().to_ascii_lowercase()) {
            None => answer.metadata.response_code = ResponseCode::NXDomain,
            Some(records) => {
                let wanted = records.iter().filter(|data| matches(data, query.query_type()));
                answer.add_answers(
                    wanted.map(|data| Record::from_rdata(query.name().clone(), 60, data.clone())),
                );
            }
        }
        answer.to_vec().ok()
    }
}

fn matches(data: &RData, wanted: RecordType) -> bool {
    data.record_type() == wanted
}
