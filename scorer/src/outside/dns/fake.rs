//! A name server on loopback that says what a test wants.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{RData, Record, RecordType};
use mail_auth::MessageAuthenticator;

pub enum Says {
    Text(String),
    Address(Ipv4Addr),
    NoSuchName,
    /// SERVFAIL.
    Fails,
    Nothing,
}

pub struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    /// `says`: of a name, in small letters and without the final dot.
    pub async fn start(says: impl Fn(&str) -> Says + Send + 'static) -> Self {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = NameServer { address: socket.local_addr().unwrap(), asked: Arc::default() };
        let asked = Arc::clone(&server.asked);
        tokio::spawn(async move {
            let mut packet = [0u8; 1500];
            while let Ok((len, client)) = socket.recv_from(&mut packet).await {
                let question = Message::from_vec(&packet[..len]).unwrap();
                let name = question.queries[0].name().to_ascii().to_ascii_lowercase();
                let name = name.trim_end_matches('.');
                asked.lock().unwrap().push(name.to_owned());
                if let Some(answer) = answer(&question, says(name)) {
                    socket.send_to(&answer.to_vec().unwrap(), client).await.unwrap();
                }
            }
        });
        server
    }

    pub fn resolver(&self) -> Arc<MessageAuthenticator> {
        super::resolver(&[self.address]).unwrap()
    }

    /// How many questions there were that this is true of.
    pub fn asked(&self, is: impl Fn(&str) -> bool) -> usize {
        self.asked.lock().unwrap().iter().filter(|name| is(name)).count()
    }
}

fn answer(question: &Message, says: Says) -> Option<Message> {
    let query = question.queries[0].clone();
    let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.recursion_available = true;
    let data = match says {
        Says::Nothing => return None,
        Says::Text(text) => {
            let parts = text.as_bytes().chunks(255).map(|part| String::from_utf8(part.to_vec()).unwrap());
            Some((RecordType::TXT, RData::TXT(TXT::new(parts.collect()))))
        }
        Says::Address(ip) => Some((RecordType::A, RData::A(A(ip)))),
        Says::NoSuchName => {
            answer.metadata.response_code = ResponseCode::NXDomain;
            None
        }
        Says::Fails => {
            answer.metadata.response_code = ResponseCode::ServFail;
            None
        }
    };
    if let Some((_, data)) = data.filter(|(kind, _)| *kind == query.query_type()) {
        answer.add_answer(Record::from_rdata(query.name().clone(), 300, data));
    }
    answer.add_query(query);
    Some(answer)
}
