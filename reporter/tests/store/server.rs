//! A real ClickHouse on loopback, started by the test and gone with it.

use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use reporter::store::clickhouse::Target;

const START: Duration = Duration::from_secs(60);
pub const PASSWORD: &str = "a + b & c";

pub struct Server {
    port: u16,
    data: PathBuf,
    /// Whether the data goes with the process.
    is_scratch: bool,
    process: Option<Child>,
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clickhouse")
}

fn engine() -> String {
    let output = Command::new(scripts().join("get")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Server {
    /// The one that all tests of this process share, each with a database of its own.
    pub fn shared() -> &'static Server {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| {
            let data = tempfile::tempdir().unwrap().keep();
            Server::start(data, true)
        })
    }

    /// One that may be stopped.
    pub fn start_on(data: &Path) -> Server {
        Server::start(data.to_owned(), false)
    }

    fn start(data: PathBuf, is_scratch: bool) -> Server {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Server { port, data, is_scratch, process: None };
        server.start_again();
        server
    }

    /// On the same port, with the same data.
    pub fn start_again(&mut self) {
        let mut command = Command::new("python3");
        command.arg(scripts().join("serve.py")).arg(engine());
        command.arg("--path").arg(&self.data).arg("--http_port").arg(self.port.to_string());
        command.arg("--config-file").arg(scripts().join("config.xml"));
        if self.is_scratch {
            command.env("REMOVE", &self.data);
        }
        // Its output would need a reader; what it says when it ends is in the file.
        let said = self.data.with_extension("stderr");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(std::fs::File::create(&said).unwrap());
        let mut process = command.spawn().unwrap();
        let began = Instant::now();
        while self.try_ask("SELECT 1").is_err() {
            let mut text = String::new();
            std::fs::File::open(&said).unwrap().read_to_string(&mut text).unwrap();
            assert!(process.try_wait().unwrap().is_none(), "ClickHouse does not start: {text}");
            assert!(began.elapsed() < START, "ClickHouse does not answer: {text}");
            #[allow(clippy::disallowed_methods)] // between two looks at the predicate
            std::thread::sleep(Duration::from_millis(50));
        }
        std::fs::remove_file(said).unwrap();
        self.process = Some(process);
    }

    /// As a power cut leaves it.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Time on processors of the whole process, in seconds.
    pub fn cpu(&self) -> f64 {
        let id = self.process.as_ref().unwrap().id();
        let text = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        // User and system time, the 14th and 15th field, in ticks of a hundredth; the second one may have spaces.
        let fields = text.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
        fields.map(|field| field.parse::<f64>().unwrap()).sum::<f64>() / 100.0
    }

    /// A database that nobody has used.
    pub fn new_database(&self) -> Target {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        self.target(&format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    pub fn target(&self, database: &str) -> Target {
        Target {
            url: format!("http://127.0.0.1:{}/", self.port),
            database: database.into(),
            user: "mailweir".into(),
            password: PASSWORD.into(),
        }
    }

    /// What a person would ask with a client of their own: rows as tab-separated text.
    pub fn ask(&self, sql: &str) -> String {
        self.try_ask(sql).unwrap_or_else(|error| panic!("{error}: {sql}"))
    }

    /// The same in a database, with rows as they will be when they are merged.
    pub fn ask_in(&self, database: &str, sql: &str) -> String {
        self.send(&format!("&database={database}&final=1"), sql)
            .unwrap_or_else(|error| panic!("{error}: {sql}"))
    }

    fn try_ask(&self, sql: &str) -> Result<String, String> {
        self.send("", sql)
    }

    fn send(&self, settings: &str, sql: &str) -> Result<String, String> {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let url = format!("http://127.0.0.1:{}/?wait_end_of_query=1{settings}", self.port);
        let mut response = agent.post(url).send(sql).map_err(|error| error.to_string())?;
        let text = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
        if response.status().is_success() { Ok(text.trim_end().to_owned()) } else { Err(text) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
