//! Short hashes, for names and annotations.

use sha2::{Digest, Sha256};

/// The first hexadecimal digits, 64 at most, of the SHA-256 of the parts one after the other.
#[must_use]
pub fn sha256_hex<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>, digits: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    format!("{:.digits$x}", hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_sha256() {
        let all = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for (parts, digits, want) in [
            (["abc", ""], 64, all),
            (["a", "bc"], 64, all),
            (["abc", ""], 16, &all[..16]),
            (["abc", ""], 8, "ba7816bf"),
            (["", ""], 6, "e3b0c4"),
        ] {
            assert_eq!(sha256_hex(parts, digits), want, "{parts:?}");
        }
    }
}
