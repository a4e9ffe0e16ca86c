//! Fetches files that a tenant's object names. *IO.*

use std::time::Duration;

use http::header::LOCATION;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::hosts::{LocalEndpoints, refused_host};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a download may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How many redirects are followed; releases on GitHub have one.
const MAX_REDIRECTS: usize = 5;

/// Why a file was not fetched.
#[derive(thiserror::Error, Debug)]
pub enum DownloadError {
    /// The text is no address.
    #[error("{text:?} is not a URL")]
    Url {
        /// The text.
        text: String,
    },
    /// The host is one that only the platform reaches.
    #[error("{host} {problem}")]
    RefusedHost {
        /// The host.
        host: String,
        /// Why it is refused.
        problem: &'static str,
    },
    /// The system's CA certificates cannot be read.
    #[error("read the system's CA certificates")]
    Roots(#[source] std::io::Error),
    /// The request could not be put together.
    #[error("build the request")]
    Build(#[source] http::Error),
    /// The server cannot be reached.
    #[error("send the request")]
    Send(#[source] hyper_util::client::legacy::Error),
    /// The answer broke off.
    #[error("read the answer")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server refuses.
    #[error("the server answers {0}")]
    Status(http::StatusCode),
    /// The file is too large.
    #[error("it is larger than {0} bytes")]
    TooLarge(usize),
    /// A redirect leads to something that is not fetched.
    #[error("redirects to {scheme}:, which is not accepted")]
    Scheme {
        /// The scheme of the address.
        scheme: String,
    },
    /// There are too many redirects.
    #[error("redirects more than {MAX_REDIRECTS} times")]
    TooManyRedirects,
    /// It takes too long.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
}

/// Fetches a file of at most `limit` bytes. What comes back is to be believed only by its checksum.
pub async fn download(url: &str, local: LocalEndpoints, limit: usize) -> Result<Vec<u8>, DownloadError> {
    tokio::time::timeout(TIMEOUT, follow(url, local, limit)).await.map_err(|_| DownloadError::Timeout)?
}

async fn follow(url: &str, local: LocalEndpoints, limit: usize) -> Result<Vec<u8>, DownloadError> {
    let mut address: Uri = url.parse().map_err(|_| DownloadError::Url { text: url.to_owned() })?;
    let client = Client::builder(TokioExecutor::new()).build(connector()?);
    for _ in 0..=MAX_REDIRECTS {
        let host = address.host().unwrap_or_default();
        if let Some(problem) = refused_host(host, local) {
            return Err(DownloadError::RefusedHost { host: host.to_owned(), problem });
        }
        let body = Empty::<&'static [u8]>::new();
        let request = Request::get(&address).body(body).map_err(DownloadError::Build)?;
        let response = client.request(request).await.map_err(DownloadError::Send)?;
        let status = response.status();
        if status.is_redirection() {
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            address = redirected(&address, location.unwrap_or_default())?;
            continue;
        }
        if !status.is_success() {
            return Err(DownloadError::Status(status));
        }
        let body = Limited::new(response.into_body(), limit).collect().await;
        return match body {
            Ok(body) => Ok(body.to_bytes().to_vec()),
            Err(error) if error.is::<LengthLimitError>() => Err(DownloadError::TooLarge(limit)),
            Err(error) => Err(DownloadError::Read(error)),
        };
    }
    Err(DownloadError::TooManyRedirects)
}

fn connector() -> Result<HttpsConnector<HttpConnector>, DownloadError> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let https = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
        .map_err(DownloadError::Roots)?;
    Ok(https.https_or_http().enable_http1().wrap_connector(http))
}

/// Where a redirect leads; never from https to http. *Pure.*
fn redirected(from: &Uri, location: &str) -> Result<Uri, DownloadError> {
    let not_a_url = || DownloadError::Url { text: location.to_owned() };
    let to: Uri = location.parse().map_err(|_| not_a_url())?;
    let Some(scheme) = to.scheme_str() else {
        let mut parts = from.clone().into_parts();
        parts.path_and_query = to.path_and_query().cloned();
        return Uri::from_parts(parts).map_err(|_| not_a_url());
    };
    match (from.scheme_str(), scheme) {
        (_, "https") | (Some("http"), "http") => Ok(to),
        _ => Err(DownloadError::Scheme { scheme: scheme.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_never_lose_encryption() {
        let https: Uri = "https://a.example/x".parse().unwrap();
        let http: Uri = "http://a.example/x".parse().unwrap();
        assert_eq!(redirected(&https, "https://b.example/y?z").unwrap(), "https://b.example/y?z");
        assert_eq!(redirected(&https, "/y").unwrap(), "https://a.example/y");
        assert_eq!(redirected(&http, "http://b.example/").unwrap(), "http://b.example/");
        assert!(redirected(&https, "http://b.example/").is_err());
        assert!(redirected(&http, "file:///etc/passwd").is_err());
        assert!(redirected(&https, "").is_err());
    }

    /// Serves one file on loopback, and a redirect to it.
    async fn serve(body: &'static [u8]) -> String {
        let file = axum::routing::get(move || async move { body });
        let redirect = axum::routing::get(|| async { (axum::http::StatusCode::FOUND, [(LOCATION, "/file?a=b")]) });
        let app = axum::Router::new().route("/file", file).route("/latest", redirect);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn a_file_is_fetched_through_a_redirect_up_to_a_limit() {
        let server = serve(b"twelve bytes").await;
        let fetch = async |path: &str, limit| {
            download(&format!("{server}{path}"), LocalEndpoints::Loopback, limit)
                .await
                .map_err(|error| error.to_string())
        };
        assert_eq!(fetch("/latest", 12).await, Ok(b"twelve bytes".to_vec()));
        assert_eq!(fetch("/file", 11).await, Err("it is larger than 11 bytes".to_owned()));
        assert_eq!(fetch("/other", 12).await, Err("the server answers 404 Not Found".to_owned()));
        let refused = download(&format!("{server}/file"), LocalEndpoints::Refused, 12).await.unwrap_err().to_string();
        assert!(refused.contains("loopback"), "{refused}");
    }
}
