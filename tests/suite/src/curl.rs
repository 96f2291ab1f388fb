//! HTTP by `curl`: the one client that is not under test here.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::variable;

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code; 0 when the connection ended without an answer.
    pub status: u16,
    /// Header fields, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header field's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.headers.iter();
        fields
            .find(|(field, _)| field == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    /// Fails unless the status is the given one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

/// A request.
#[derive(Debug, Clone)]
pub struct Call {
    arguments: Vec<String>,
    body: Option<Vec<u8>>,
}

/// A request to the URL.
pub fn call(method: &str, url: &str) -> Call {
    let arguments = [
        "-sS",
        "-i",
        "--http1.1",
        "--max-time",
        "120",
        "--cacert",
        &variable("SERVICES_CA"),
        "-H",
        "Expect:",
        "-X",
        method,
        url,
    ];
    Call {
        arguments: arguments.map(str::to_owned).to_vec(),
        body: None,
    }
}

impl Call {
    /// Adds a header field.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.arguments
            .extend(["-H".into(), format!("{name}: {value}")]);
        self
    }

    /// Sends JSON.
    pub fn json(self, body: &Value) -> Self {
        let mut call = self.header("Content-Type", "application/json");
        call.body = Some(body.to_string().into_bytes());
        call
    }

    /// Sends text of a given type.
    pub fn text(self, content_type: &str, body: &str) -> Self {
        let mut call = self.header("Content-Type", content_type);
        call.body = Some(body.as_bytes().to_vec());
        call
    }

    /// Sends a file's content.
    pub fn file(self, content_type: &str, path: &Path) -> Self {
        let mut call = self.header("Content-Type", content_type);
        call.arguments
            .extend(["-T".into(), path.to_str().unwrap().into()]);
        call
    }

    /// Takes any certificate.
    pub fn insecure(mut self) -> Self {
        self.arguments.push("-k".into());
        self
    }

    /// Sends the request and waits for the answer.
    pub fn send(&self) -> Answer {
        let mut command = Command::new("curl");
        command.args(&self.arguments).stdout(Stdio::piped());
        command.stderr(Stdio::piped()).stdin(Stdio::null());
        if self.body.is_some() {
            command.args(["--data-binary", "@-"]).stdin(Stdio::piped());
        }
        let mut child = command.spawn().expect("curl is needed");
        if let Some(body) = &self.body {
            let mut stdin = child.stdin.take().unwrap();
            // A server that refuses early closes the pipe; its answer says why.
            let _ = stdin.write_all(body);
        }
        parse(&child.wait_with_output().unwrap().stdout)
    }
}

fn parse(output: &[u8]) -> Answer {
    let mut rest = output;
    let mut answer = Answer {
        status: 0,
        headers: Vec::new(),
        body: Vec::new(),
    };
    while rest.starts_with(b"HTTP/") {
        let end = rest
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .expect("a complete head");
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        answer.status = status.parse().unwrap();
        answer.headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        rest = &rest[end + 4..];
        // An interim answer is followed by another head.
        if answer.status >= 200 {
            break;
        }
    }
    rest.clone_into(&mut answer.body);
    answer
}
