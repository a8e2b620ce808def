//! The database of the older TypeScript system, for those who move from it.

use a2a_store::database_url::DatabaseUrl;
use a2a_store::error::StoreError;

pub use a2a_store::prisma::{PrismaDatabase, PrismaError, Row};

/// Opens the database that a URL names, as Prisma has it in `DATABASE_URL`.
///
/// # Errors
/// When it is none of Postgres, can't be reached, or is no such database.
pub async fn open(url: &str) -> Result<PrismaDatabase, PrismaError> {
    match DatabaseUrl::parse(url).map_err(StoreError::from)? {
        DatabaseUrl::Postgres(url) => PrismaDatabase::open(&url).await,
        DatabaseUrl::Sqlite(_) => Err(PrismaError::Statement("it is no Postgres database".to_owned())),
    }
}
