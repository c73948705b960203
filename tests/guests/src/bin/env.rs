//! Says what it sees of the world: its environment, and what it may not have.

guests::guest!(|_request, out| {
    let mut lines: Vec<_> = std::env::vars().map(|(name, value)| format!("env {name}={value}")).collect();
    lines.sort();
    lines.push(format!("args {}", std::env::args().count()));
    lines.push(format!("read {}", std::fs::read("/etc/passwd").is_ok()));
    lines.push(format!("list {}", std::fs::read_dir("/").is_ok()));
    lines.push(format!("connect {}", std::net::TcpStream::connect("127.0.0.1:80").is_ok()));
    lines.push(format!("listen {}", std::net::TcpListener::bind("127.0.0.1:0").is_ok()));
    lines.push(format!("udp {}", std::net::UdpSocket::bind("127.0.0.1:0").is_ok()));
    lines.push(format!("resolve {}", std::net::ToSocketAddrs::to_socket_addrs("localhost:80").is_ok()));
    guests::answer(out, 200, &[("content-type", "text/plain")], lines.join("\n").as_bytes());
});
