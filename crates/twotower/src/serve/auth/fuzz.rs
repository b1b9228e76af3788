use super::authenticator::verify;
use super::jwks;
use super::key::{Expected, Key, SessionKey};
use super::{AuthError, Authenticator, Config, Identity, Secret};
use crate::fuzz::{FEW, MANY, corpus, fuzz, refusal, way};
use axum::http::{HeaderMap, HeaderValue, header};
use futures_util::FutureExt;
use jsonwebtoken::{Algorithm, DecodingKeyKind, EncodingKey, Header, decode_header, encode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;

const SECRET: &str = "a secret of the fuzz target, 32 bytes or more";
const USER: Uuid = Uuid::from_u128(0x0b00_0000_0000_4000_8000_0000_0000_0001);

/// 2100-01-01.
const FAR: u64 = 4_102_444_800;

fn signed(claims: &Value, key_id: Option<&str>) -> Vec<u8> {
    let header = Header {
        kid: key_id.map(Into::into),
        ..Header::default()
    };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&header, claims, &key).unwrap().into_bytes()
}

/// However a valid token is changed, it names its own user or nobody.
#[test]
fn fuzz_tokens() {
    let config = Config {
        secret: Some(Secret::new(SECRET).unwrap()),
        ..Config::default()
    };
    let session = SessionKey::random().unwrap();
    let auth = Authenticator::new(&config, Some(&session)).unwrap();
    let good = json!({"sub": USER, "aud": "authenticated", "exp": FAR, "role": "authenticated"});
    let service = json!({"aud": "authenticated", "exp": FAR, "role": "service_role"});
    let genuine = [
        signed(&good, None),
        signed(&good, Some("a")),
        signed(&service, None),
        signed(
            &json!({"sub": USER, "aud": "authenticated", "exp": 1}),
            None,
        ),
        signed(
            &json!({"sub": "x", "aud": ["authenticated"], "exp": FAR}),
            None,
        ),
        session.mint(USER).unwrap().into_bytes(),
    ];
    let mut examples = corpus("token");
    examples.extend_from_slice(&genuine);
    fuzz("token", MANY, examples, |token| {
        let mut text = b"Bearer ".to_vec();
        text.extend_from_slice(token);
        // Text that is not a header value never reaches us.
        let Ok(value) = HeaderValue::from_bytes(&text) else {
            return 0;
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value);
        let user = auth.authenticate(&headers).now_or_never().expect("no wait");
        let service = auth
            .authenticate_service(&headers)
            .now_or_never()
            .expect("no wait");
        if user.is_ok() || service.is_ok() {
            assert!(
                genuine.iter().any(|genuine| genuine == token),
                "a token that nobody signed is accepted"
            );
            assert!(user.is_ok() != service.is_ok());
        }
        match user {
            Ok(Identity { user }) => {
                assert_eq!(user, USER);
                1
            }
            Err(AuthError::ServiceToken) => 2,
            Err(error) => way(&error.to_string()),
        }
    });
}

/// Whether a key has one algorithm, requires the claims that ours require, and has the length of
/// its algorithm.
fn is_whole(key: &Key) -> bool {
    let [algorithm] = key.validation.algorithms[..] else {
        return false;
    };
    let claims = &key.validation.required_spec_claims;
    let fits = match (key.decoding.kind(), algorithm) {
        (DecodingKeyKind::RsaModulusExponent { n, .. }, Algorithm::RS256) => {
            let first = n.iter().position(|byte| *byte != 0);
            first.is_some_and(|first| (256..=512).contains(&(n.len() - first)))
        }
        (DecodingKeyKind::SecretOrDer(bytes), Algorithm::ES256) => bytes.len() == 65,
        (DecodingKeyKind::SecretOrDer(bytes), Algorithm::EdDSA) => bytes.len() == 32,
        (DecodingKeyKind::SecretOrDer(bytes), Algorithm::HS256) => bytes.len() >= 32,
        _ => false,
    };
    fits && ["exp", "aud"].iter().all(|claim| claims.contains(*claim))
}

/// Whatever an issuer sends: all keys are complete, an address has no shared secret, and a token
/// without a key is refused.
#[test]
fn fuzz_sets_of_keys() {
    let expected = Expected {
        issuer: None,
        audience: "authenticated".into(),
    };
    // One token signed with an empty secret, and others without a signature.
    let claims = json!({"sub": USER, "aud": "authenticated", "exp": FAR});
    let nothing = EncodingKey::from_secret(b"");
    let mut strangers = vec![encode(&Header::default(), &claims, &nothing).unwrap()];
    strangers.extend(
        [
            "eyJhbGciOiJFUzI1NiJ9.e30.AAAA",
            "eyJhbGciOiJFZERTQSJ9.e30.AAAA",
            "eyJhbGciOiJSUzI1NiJ9.e30.AAAA",
        ]
        .map(String::from),
    );
    let headers: Vec<Header> = strangers
        .iter()
        .map(|token| decode_header(token).unwrap())
        .collect();
    fuzz("jwks", FEW, corpus("jwks"), |input| {
        let json = String::from_utf8_lossy(input);
        let known = |symmetric| jwks::parse(&json, symmetric, &expected).map(|it| it.keys);
        let in_depth = input.len().is_multiple_of(8);
        let public = match known(false) {
            Ok(public) => public,
            Err(error) => {
                assert!(!in_depth || known(true).is_err(), "{json}");
                return refusal(&error.to_string(), 200);
            }
        };
        assert!(
            public.len() <= 32 && public.iter().all(is_whole),
            "{public:?}"
        );
        if in_depth {
            let all = known(true).unwrap();
            assert!(all.len() <= 32 && all.iter().all(is_whole), "{all:?}");
            let name = |key: &Key| (key.validation.algorithms[0], key.id.clone());
            let but_secrets = all.iter().map(name);
            let but_secrets = but_secrets.filter(|(of, _)| *of != Algorithm::HS256);
            assert!(but_secrets.eq(public.iter().map(name)), "{public:?}");
            for (token, header) in strangers.iter().zip(&headers) {
                assert!(verify(&all, header, token).is_err(), "{token}");
            }
        }
        let kinds: BTreeSet<_> = public
            .iter()
            .map(|key| format!("{:?} {}", key.validation.algorithms, key.id.is_some()))
            .collect();
        way(&format!("{kinds:?} {}", public.len() > 1))
    });
}
