use super::key::SessionKey;
use super::{AuthError, Authenticator, Config, Identity, Secret};
use crate::serve::fuzz::{corpus, fuzz, way};
use axum::http::{HeaderMap, HeaderValue, header};
use futures_util::FutureExt;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
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

/// Whatever becomes of a good token, it names its own user or nobody.
#[test]
fn heavy_fuzz_tokens() {
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
    fuzz("token", examples, |token| {
        let mut text = b"Bearer ".to_vec();
        text.extend_from_slice(token);
        // What is no header value never reaches us.
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
