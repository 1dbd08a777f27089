//! A headless Chromium, spoken to by the DevTools protocol over two FIFOs (`--remote-debugging-pipe`: JSON that ends with
//! a zero byte).

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use super::{look::items, process::Process, scene::Scene, until::PATIENCE};

/// Flags without which it does not run, or not alone, in a test.
pub const CHROMIUM: [&str; 6] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
];

/// One with one page; it ends when this does.
pub struct Browser {
    to: File,
    from: Receiver<Value>,
    session: Option<String>,
    last_id: u64,
    complaints: Vec<Value>,
    process: Process,
}

impl Browser {
    /// Starts one, with an empty page.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub fn start(scene: &Scene) -> Self {
        let [(to, to_path), (from, from_path)] = ["devtools-to", "devtools-from"].map(|name| {
            let path = scene.path(name);
            mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
                .unwrap_or_else(|e| panic!("make a FIFO: {e}"));
            // For both, so that opening does not wait for the other end.
            let file = OpenOptions::new().read(true).write(true).open(&path);
            (file.unwrap_or_else(|e| panic!("open {}: {e}", path.display())), path)
        });
        let child = Command::new("sh")
            .args(["-c", "exec 3<\"$1\" 4>\"$2\"; shift 2; exec chromium --remote-debugging-pipe \"$@\"", "sh"])
            .args([to_path, from_path])
            .args(CHROMIUM)
            .arg(format!("--user-data-dir={}", scene.path("chromium").display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("start chromium: {e}"));
        let (heard, messages) = channel();
        thread::spawn(move || {
            // Ours is the other end too, so there is no end of file: it ends with the test.
            for message in BufReader::new(from).split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { continue };
                if heard.send(message).is_err() {
                    return;
                }
            }
        });
        let process = Process::of_child(child);
        let mut browser = Self { to, from: messages, session: None, last_id: 0, complaints: Vec::new(), process };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].take();
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Runtime", "Log", "Page"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Goes there, and waits until it is loaded; how long that took.
    ///
    /// # Panics
    ///
    /// When it is not.
    pub fn open(&mut self, url: &str) -> Duration {
        let began = Instant::now();
        self.call("Page.navigate", json!({ "url": url }));
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'");
        began.elapsed()
    }

    /// Asks for a method's result.
    ///
    /// # Panics
    ///
    /// When none comes, or an error.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        let session = self.session.clone();
        self.call_of(session.as_deref(), method, params)
    }

    /// The same, of a page or of the browser itself.
    fn call_of(&mut self, session: Option<&str>, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let text = format!("{message}\0");
        self.to.write_all(text.as_bytes()).unwrap_or_else(|e| panic!("tell chromium: {e}"));
        loop {
            let mut message =
                self.from.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("no answer of chromium to {method}: {e}"));
            match message["method"].as_str() {
                Some("Log.entryAdded" | "Runtime.exceptionThrown" | "Runtime.consoleAPICalled") => {
                    self.complaints.push(message);
                }
                Some(_) => {}
                None if message["id"] == id => {
                    assert!(message.get("error").is_none(), "{method}: {message}");
                    return message["result"].take();
                }
                None => {}
            }
        }
    }

    /// The value of an expression of JavaScript in the page.
    ///
    /// # Panics
    ///
    /// When it throws.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut result = self.call("Runtime.evaluate", params);
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].take()
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    ///
    /// When it does not become so.
    pub fn wait(&mut self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.evaluate(expression) != Value::Bool(true) {
            if Instant::now() > deadline {
                let text = self.evaluate("document.body.innerText");
                panic!("waited in vain until {expression}; the page:\n{}", text.as_str().unwrap_or_default());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// How many bytes of memory the process that shows the page has for itself: the largest of those that can show one, for
    /// there may be others in reserve.
    ///
    /// # Panics
    ///
    /// When there is none, or it cannot be read.
    pub fn page_bytes(&mut self) -> u64 {
        let processes = self.call_of(None, "SystemInfo.getProcessInfo", json!({}))["processInfo"].take();
        let renderers = items(&processes).iter().filter(|process| process["type"] == "renderer");
        let bytes = renderers.filter_map(|process| private_bytes(process["id"].as_u64().unwrap_or_default()));
        bytes.max().unwrap_or_else(|| panic!("{processes:#}"))
    }

    /// What is on the screen, as PNG.
    ///
    /// # Panics
    ///
    /// When there is no picture.
    pub fn screenshot(&mut self, to: &Path) {
        let data = self.call("Page.captureScreenshot", json!({ "format": "png" }))["data"].take();
        let file = File::create(to).unwrap_or_else(|e| panic!("create {}: {e}", to.display()));
        let mut decode = Command::new("base64")
            .arg("-d")
            .stdin(Stdio::piped())
            .stdout(file)
            .spawn()
            .unwrap_or_else(|e| panic!("start base64: {e}"));
        let mut into = decode.stdin.take().unwrap_or_else(|| panic!("base64 has no input"));
        into.write_all(data.as_str().unwrap_or_default().as_bytes()).unwrap_or_else(|e| panic!("tell base64: {e}"));
        drop(into);
        assert!(decode.wait().is_ok_and(|status| status.success()), "base64 -d failed");
    }

    /// What the page or the browser has had to complain about.
    pub fn complaints(&self) -> &[Value] {
        &self.complaints
    }
}

/// Nothing if it has ended since.
fn private_bytes(pid: u64) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let lines = text.lines().filter(|line| line.starts_with("Private_"));
    let kilobytes = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    Some(kilobytes.sum::<u64>() * 1024)
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to, it takes its children with it.
        let close = json!({ "id": self.last_id + 1, "method": "Browser.close" });
        let _ = self.to.write_all(format!("{close}\0").as_bytes());
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.process.lives() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
}
