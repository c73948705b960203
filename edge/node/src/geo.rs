//! Where clients are: the operator's databases (MMDB), read into memory when the node starts.
//!
//! What they say is theirs: a record that is no text, or a number out of range, is as if it were not there.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use eyot_guest::Geo;
use maxminddb::{PathElement, Reader};

/// A database is no larger, in bytes.
const BYTES_MAX: u64 = 1 << 30;

/// The databases of a node. None: nothing is known of where a client is.
#[derive(Debug, Default)]
pub struct Databases {
    /// Countries, and perhaps cities.
    places: Option<Reader<Vec<u8>>>,
    /// Networks, where the first does not know them.
    networks: Option<Reader<Vec<u8>>>,
}

/// Why a database was not read.
#[derive(Debug, thiserror::Error)]
#[error("the database {path}")]
pub struct GeoError {
    path: PathBuf,
    source: io::Error,
}

impl Databases {
    /// Reads them.
    ///
    /// # Errors
    /// When one of them cannot be read, or is no such database.
    pub fn open(places: Option<&Path>, networks: Option<&Path>) -> Result<Self, GeoError> {
        let read = |path| read(path, BYTES_MAX);
        Ok(Self { places: places.map(read).transpose()?, networks: networks.map(read).transpose()? })
    }

    /// Where `client` is; none where nothing is known of it.
    pub fn find(&self, client: IpAddr) -> Option<Geo> {
        let place = self.places.as_ref().and_then(|places| place(places, client));
        let asn = self.networks.as_ref().and_then(|networks| asn(networks, client));
        if place.is_none() && asn.is_none() {
            return None;
        }
        let place = place.unwrap_or_default();
        Some(Geo { asn: asn.or(place.asn), ..place })
    }
}

fn read(path: &Path, bytes_max: u64) -> Result<Reader<Vec<u8>>, GeoError> {
    let fail = |source| GeoError { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(fail)?;
    let read = file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(fail)?;
    if read as u64 > bytes_max {
        return Err(fail(io::Error::other(format!("more than {bytes_max} bytes"))));
    }
    Reader::from_source(bytes).map_err(|error| fail(io::Error::other(error.to_string())))
}

/// What a database of places says. Several that are sold have the number of the network in the same record.
fn place(places: &Reader<Vec<u8>>, client: IpAddr) -> Option<Geo> {
    let record = places.lookup(client).ok().filter(maxminddb::LookupResult::has_data)?;
    let key = PathElement::Key;
    let text = |path: &[PathElement<'_>]| {
        let text: Option<String> = record.decode_path(path).ok().flatten();
        text.filter(|text| !text.is_empty())
    };
    let degrees = |name, most: f64| {
        let degrees: Option<f64> = record.decode_path(&[key("location"), key(name)]).ok().flatten();
        degrees.filter(|degrees| degrees.abs() <= most)
    };
    Some(Geo {
        country: text(&[key("country"), key("iso_code")]),
        region: text(&[key("subdivisions"), PathElement::Index(0), key("iso_code")]),
        city: text(&[key("city"), key("names"), key("en")]),
        latitude: degrees("latitude", 90.0),
        longitude: degrees("longitude", 180.0),
        asn: asn(places, client),
    })
}

fn asn(networks: &Reader<Vec<u8>>, client: IpAddr) -> Option<u32> {
    let record = networks.lookup(client).ok()?;
    record.decode_path(&[PathElement::Key("autonomous_system_number")]).ok().flatten()
}

#[cfg(test)]
pub(crate) mod tests;
