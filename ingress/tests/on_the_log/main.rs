//! Ingress as a whole, over sockets, on the real embedded log, with a scorer of a few lines that judges by a word in
//! the message.

mod accepting;
mod authentication;
mod client;
mod connections;
mod node;
mod tls;
