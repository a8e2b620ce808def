//! Secrets, put together at run time so that nothing here looks like one.

/// Letters and digits that look random and are the same each time.
pub(crate) fn random(length: usize, alphabet: &str, seed: u64) -> String {
    let letters: Vec<char> = alphabet.chars().collect();
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            letters[usize::try_from(state >> 33).unwrap() % letters.len()]
        })
        .collect()
}

pub(crate) const MIXED: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const HEX: &str = "0123456789abcdef";

/// Texts with a secret each, and the secret.
pub(crate) fn corpus() -> Vec<(String, String)> {
    let mut tokens: Vec<String> = Vec::new();
    for (seed, (start, length, alphabet)) in (1..).zip([
        (["AK", "IA"].concat(), 16, UPPER),
        (["AS", "IA"].concat(), 16, UPPER),
        (["gh", "p_"].concat(), 36, MIXED),
        (["gh", "o_"].concat(), 36, MIXED),
        (["gh", "s_"].concat(), 36, MIXED),
        (["github", "_pat_"].concat(), 40, MIXED),
        (["gl", "pat-"].concat(), 20, MIXED),
        (["xo", "xb-"].concat(), 40, MIXED),
        (["xo", "xp-"].concat(), 40, MIXED),
        (["sk-", "ant-api03-"].concat(), 60, MIXED),
        (["sk-", "proj-"].concat(), 48, MIXED),
        (["s", "k-"].concat(), 48, MIXED),
        (["sk_", "live_"].concat(), 24, MIXED),
        (["rk_", "live_"].concat(), 24, MIXED),
        (["wh", "sec_"].concat(), 32, MIXED),
        (["AI", "za"].concat(), 35, MIXED),
        (["ya", "29."].concat(), 60, MIXED),
        (["np", "m_"].concat(), 36, MIXED),
        (["pypi-", "AgEI"].concat(), 80, MIXED),
        (["dop_", "v1_"].concat(), 64, HEX),
        (["h", "f_"].concat(), 34, MIXED),
        (["gs", "k_"].concat(), 52, MIXED),
        (["shp", "at_"].concat(), 32, HEX),
        (["lin_", "api_"].concat(), 40, MIXED),
        (["dckr_", "pat_"].concat(), 27, MIXED),
        (["hv", "s."].concat(), 90, MIXED),
        (["gl", "sa_"].concat(), 32, MIXED),
        (["da", "pi"].concat(), 32, HEX),
        (["ts", "key-auth-"].concat(), 30, MIXED),
        (["AGE-SECRET-", "KEY-1"].concat(), 58, UPPER),
        (["ke", "y-"].concat(), 32, HEX),
        (["sb", "p_"].concat(), 40, HEX),
        (String::new(), 32, MIXED),
        (String::new(), 40, MIXED),
        (String::new(), 64, MIXED),
    ]) {
        tokens.push(start + &random(length, alphabet, seed));
    }
    let part = |seed| random(40, MIXED, seed);
    tokens.push(format!("{}{}.{}{}.{}", "ey", ["J", &part(50)].concat(), "ey", ["J", &part(51)].concat(), part(52)));
    let mut texts: Vec<(String, String)> = Vec::new();
    for (i, token) in tokens.into_iter().enumerate() {
        let text = match i % 6 {
            0 => format!("The key is {token}."),
            1 => format!("export SERVICE_TOKEN={token}"),
            2 => format!("curl -H \"Authorization: Bearer {token}\" https://api.example.org/v1"),
            3 => format!("{{\"auth\": \"{token}\"}}"),
            4 => format!("use `{token}` for now,\nand rotate it later"),
            _ => format!("https://api.example.org/hook?token={token}&x=1"),
        };
        texts.push((text, token));
    }
    for (name, length) in
        [("api_key", 24), ("client-secret", 20), ("ACCESS_TOKEN", 16), ("db.password", 12), ("Passphrase", 14)]
    {
        let value = format!("{}7x9Q", random(length, MIXED, 90 + length as u64));
        texts.push((format!("{name} = \"{value}\""), value.clone()));
        texts.push((format!("{name}: {value}"), value.clone()));
        texts.push((format!("the {name} is {value}"), value));
    }
    for scheme in ["postgres", "mysql", "amqp", "https", "redis", "mongodb+srv"] {
        let password = random(14, MIXED, 200 + scheme.len() as u64);
        texts.push((format!("connect to {scheme}://app:{password}@db.internal:5432/main now"), password));
    }
    let line = ["-----BEGIN ", "RSA PRIVATE", " KEY-----"].concat();
    let body: Vec<String> = (0..6).map(|i| random(64, MIXED, 300 + i)).collect();
    let end = line.replace("BEGIN", "END");
    texts.push((format!("{line}\n{}\n{end}", body.join("\n")), body[2].clone()));
    texts.push((format!("{} {}", line.replace("RSA ", "OPENSSH "), body.join(" ")), body[5].clone()));
    texts
}
