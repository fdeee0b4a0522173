//! The demo's site: a directory with the configuration, a name server, a receiving server, two domains, three users.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::Context as _;
use control::api::{ApplyAnswer, ApplyRequest, DkimKeys, PlanAnswer, SettingsFile};
use tokio_util::sync::CancellationToken;

use super::dns::NameServer;
use super::messages::ClientKey;
use super::receiver::Receiver;
use crate::config::Config;
use crate::socket::Client;

/// Domains whose mail the receiving server takes; the senders' own are among them, so that bounces and reports arrive.
const RECEIVING: [&str; 8] = [
    "inbox.example",
    "inbox0.example",
    "inbox1.example",
    "slow.example",
    "shop.example",
    "newsroom.example",
    "florist.example",
    "hoster.example",
];
pub const PASSWORD_OF_DOMAIN: &str = "correct-horse-battery";
pub const PASSWORD_OF_MAILBOX: &str = "staple-tray-lantern";

pub struct Site {
    pub config_file: PathBuf,
    pub receiver: Receiver,
    names: NameServer,
    name_server: std::net::SocketAddr,
}

impl Site {
    /// # Errors
    /// When a port or the directory cannot be had.
    pub async fn set_up(shutdown: CancellationToken) -> anyhow::Result<Self> {
        let directory = std::env::temp_dir().join(format!("mailweir-demo-{}", std::process::id()));
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("{} cannot be made", directory.display()))?;
        super::certificate::write_files(&directory, "smtp.hoster.example")?;
        let (receiver, receiving) = Receiver::start(shutdown.clone()).await?;
        let names = NameServer::default();
        for domain in RECEIVING {
            names.add_mx(domain, "mx.inbox.example.")?;
        }
        names.add_a("mx.inbox.example", Ipv4Addr::LOCALHOST);
        let name_server = names.start(shutdown).await?;
        let config_file = directory.join("mailweir.toml");
        let dir = directory.display();
        let text = format!(
            "node = \"demo\"\ndata_dir = \"{dir}/data\"\n\n[log]\nmin_free = \"64MiB\"\n\n[ingress]\nhostname = \"smtp.hoster.example\"\n\n\
             [[ingress.listener]]\nbind = \"127.0.0.1:0\"\ntls = \"starttls\"\n\n[tls]\ncertificate = \"{dir}/cert.pem\"\nkey = \"{dir}/key.pem\"\n\n\
             [delivery]\ndns_servers = [\"{name_server}\"]\nsmtp_port = {}\nretry = [\"2s\"]\n\n[reporter]\nabuse_address = \"abuse@hoster.example\"\n\n\
             [http]\nbind = \"127.0.0.1:0\"\n",
            receiving.port()
        );
        std::fs::write(&config_file, text)?;
        std::fs::write(directory.join("settings.toml"), settings())?;
        Ok(Site { config_file, receiver, names, name_server })
    }

    /// Does what an administrator does: `mailweir apply`, then publishes the DKIM records that `mailweir dkim list` shows.
    ///
    /// # Errors
    /// What control refuses.
    pub async fn apply_settings(&self, config: &Config) -> anyhow::Result<()> {
        let client = client(config);
        let file = SettingsFile::load(&self.config_file.with_file_name("settings.toml"))?;
        let plan: PlanAnswer = client.post("/v1/settings/plan", &file).await?;
        let applied: ApplyAnswer =
            client.post("/v1/settings/apply", &ApplyRequest { file, expected_version: plan.version }).await?;
        println!(
            "Settings applied: {} entries, two domains and three outgoing users among them",
            applied.diff.len()
        );
        let keys: DkimKeys = client.get("/v1/dkim", &[]).await?;
        keys.keys.iter().for_each(|key| self.names.add_txt(&key.record.name, &key.record.value));
        Ok(())
    }

    /// # Errors
    /// When the key does not read back.
    pub fn publish_client_key(&self, key: &ClientKey) -> anyhow::Result<()> {
        self.names.add_txt("client._domainkey.newsroom.example", &key.record()?);
        Ok(())
    }

    /// Where DKIM records are looked up.
    #[must_use]
    pub fn name_server(&self) -> std::net::SocketAddr {
        self.name_server
    }

    pub fn print_ways_on(&self, config: &Config) {
        let file = self.config_file.display();
        println!(
            "\nTo look further, run `mailweir demo --stay`, and beside it, with its own file in place of this one:"
        );
        for verb in [
            "log",
            "trace ID",
            "quarantine",
            "identities",
            "stats --group-by identity",
            "queue",
            "settings --changes",
        ] {
            println!("  mailweir {verb} --config {file}");
        }
        println!(
            "Everything is under {}; remove it when you are done.",
            config.data_dir.parent().unwrap_or(&config.data_dir).display()
        );
    }
}

#[must_use]
pub fn client(config: &Config) -> Client {
    Client::new(config.control_socket(), "demo".into())
}

fn settings() -> String {
    format!(
        r#"# Settings of the demo.
[defaults]
max_connections = 20

[[domain]]
name = "server1.hoster.example"
abuse_address = "abuse@hoster.example"
dkim_selector = "mw1"

[[domain]]
name = "shop.example"
block_senders = ["casino@shop.example"]

[[dkim_key]]
domain = "server1.hoster.example"
selector = "mw1"
generate = true

[[dkim_key]]
domain = "shop.example"
selector = "rsa1"
generate = true

[[dkim_key]]
domain = "shop.example"
selector = "ed1"
algorithm = "ed25519"
generate = true

# A whole server, known by its address.
[[outgoing_user]]
domain = "server1.hoster.example"
ip = "127.0.0.2/32"

# A domain with its password.
[[outgoing_user]]
domain = "shop.example"
login = "shop.example"
password = "{PASSWORD_OF_DOMAIN}"

# A mailbox with its password.
[[outgoing_user]]
domain = "shop.example"
login = "orders@shop.example"
password = "{PASSWORD_OF_MAILBOX}"
"#
    )
}
