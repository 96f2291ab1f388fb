use std::{
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::{Value, json};

use super::{engine, glance, *};
use crate::{Disk, Server};

/// Status, headers and body of one request on a connection of its own.
fn call(
    server: &Server,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    let body = answer.split_off(end + 4);
    let head = String::from_utf8(answer).unwrap();
    (head[9..12].parse().unwrap(), head, body)
}

fn json_of(answer: &(u16, String, Vec<u8>)) -> Value {
    serde_json::from_slice(&answer.2).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

#[test]
fn glance_serves_its_image_to_those_who_have_a_token() {
    let disk = Disk::random(1, 1000);
    let glance = Glance::start(&disk, None);
    let server = glance.server();
    let auth = |password: &str| {
        let user = json!({"name": "fork", "password": password});
        let body =
            json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}});
        call(server, "POST", glance::TOKENS, "", &body.to_string())
    };
    assert_eq!(auth("wrong").0, 401);
    let answer = auth(glance::PASSWORD);
    let token = answer
        .1
        .lines()
        .find_map(|line| line.strip_prefix("X-Subject-Token: "));
    let token = format!("X-Auth-Token: {}\r\n", token.unwrap());
    let catalog = &json_of(&answer)["token"]["catalog"][0];
    assert_eq!(catalog["endpoints"][0]["url"], server.url(""));
    let record = json_of(&call(server, "GET", glance::RECORD, &token, ""));
    assert_eq!(
        (&record["status"], &record["size"]),
        (&json!("active"), &json!(1000))
    );
    let ranged = format!("{token}Range: bytes=10-19\r\n");
    let part = call(server, "GET", glance::FILE, &ranged, "");
    assert_eq!((part.0, part.2.as_slice()), (206, &disk.bytes()[10..20]));
    glance.expire_tokens();
    assert_eq!(call(server, "GET", glance::FILE, &token, "").0, 401);
    assert_eq!(
        (glance.tokens_issued(), glance.data_requests().len()),
        (1, 2)
    );
}

#[test]
fn the_engine_gives_a_ticket_until_the_transfer_ends() {
    let disk = Disk::picture("A0", 512);
    let engine = Engine::start(&disk, None);
    let form = format!(
        "grant_type=password&username=u&password={}",
        engine::PASSWORD
    );
    let token = json_of(&call(engine.api(), "POST", engine::TOKEN, "", &form));
    let token = token["access_token"].as_str().unwrap();
    let token = format!("Authorization: Bearer {token}\r\n");
    let api = |method: &str, path: &str| call(engine.api(), method, path, &token, "{}");
    let looked_at = json_of(&api(
        "GET",
        &format!("/ovirt-engine/api/disks/{}", engine::DISK),
    ));
    assert_eq!(looked_at["provisioned_size"], "1024");
    let transfer = json_of(&api("POST", engine::TRANSFERS));
    assert_eq!(api("POST", engine::TRANSFERS).0, 409);
    let url = transfer["transfer_url"].as_str().unwrap();
    let path = url.strip_prefix(&engine.data().url("")).unwrap();
    let data = |method: &str, path: &str| call(engine.data(), method, path, "", "");
    assert_eq!(json_of(&data("OPTIONS", path))["max_readers"], 8);
    let extents = json_of(&data("GET", &format!("{path}/extents")));
    assert_eq!(
        extents[1],
        json!({"start": 512, "length": 512, "zero": true, "hole": false})
    );
    assert_eq!(data("GET", path).2, disk.bytes());
    let sum = json_of(&data("GET", &format!("{path}/checksum")));
    assert_eq!(sum["checksum"].as_str().unwrap().len(), 64);
    assert_eq!(engine.transfers(), (1, 1));
    let href = transfer["href"].as_str().unwrap();
    assert_eq!(api("POST", &format!("{href}/finalize")).0, 200);
    assert_eq!(engine.transfers(), (1, 0));
    let phase = |it: &(u16, String, Vec<u8>)| json_of(it)["phase"].as_str().unwrap().to_owned();
    assert_eq!(phase(&api("GET", href)), "finalizing_success");
    assert_eq!(phase(&api("GET", href)), "finished_success");
    assert_eq!(data("GET", path).0, 403);
    assert_eq!(engine.data_requests().len(), 2);
    engine.expire_tokens();
    assert_eq!(api("GET", href).0, 401);
}
