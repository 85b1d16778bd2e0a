//! The statements of requests.
//!
//! Each request is one statement, which commits by itself. So a client that stops holds no lock of
//! the server. All values are bound as parameters.

/// The oldest release of the server with all functions of the statements.
pub(super) const LEAST_VERSION: i32 = 120_000;

/// The channel of all notifications.
pub(super) const CHANNEL: &str = "latchwork_lease";

/// Reads the properties of a server that a connection needs.
pub(super) const INSPECT: &str = "
    SELECT current_setting('server_version_num')::int AS version,
        current_setting('server_encoding') AS encoding,
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS clock,
        pg_is_in_recovery() AS is_standby,
        current_setting('latchwork.direct', true) AS direct,
        to_regnamespace('latchwork') IS NOT NULL AS has_schema,
        EXISTS (SELECT FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'latchwork' AND c.relname = 'layout') AS has_table";

pub(super) const READ_LAYOUT: &str = "SELECT version FROM latchwork.layout";

/// $1 namespace, $2 name, $3 nonce, $4 owner, $5 microseconds, $6 the ear of its place, $7 the
/// server's time, in microseconds since 1970, from which on the statement has no effect.
pub(super) const ACQUIRE: &str = "SELECT latchwork.acquire($1, $2, $3, $4, $5, $7, $6)";

/// As [`ACQUIRE`] for a key without waiters, without a function: $1 to $5 as there, $6 as $7.
///
/// It returns no row, and has no effect, if the key is new, is held, has a queue or is requested
/// too late, or if the commit would not be durable. [`ACQUIRE`] then decides [PG13].
pub(super) const ACQUIRE_FREE: &str = "
    UPDATE latchwork.lease SET counter = counter + 1, token = counter + 1, nonce = $3, owner = $4,
        granted = clock_timestamp(), expires = clock_timestamp() + $5 * interval '1 microsecond'
    WHERE namespace = $1 AND name = $2 AND (nonce IS NULL OR expires <= clock_timestamp())
        AND queue = '{}' AND current_setting('synchronous_commit') <> 'off'
        AND clock_timestamp() < timestamptz 'epoch' + $6 * interval '1 microsecond'
    RETURNING ARRAY[token, NULL,
        (date_part('epoch', clock_timestamp()) * 1000000)::bigint]";

/// $1 namespaces, $2 names, $3 nonces, $4 owners, $5 microseconds: one element for
/// each request; $6 as $7 for one request. The queues are ignored.
///
/// If some keys are granted and not all, the division by zero rolls the statement back.
pub(super) const ACQUIRE_ALL: &str = "
    WITH durable AS MATERIALIZED (
        SELECT CASE WHEN current_setting('synchronous_commit') = 'off'
            THEN set_config('synchronous_commit', 'on', true) END AS setting),
    asked AS MATERIALIZED (
        SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::bigint[])
            WITH ORDINALITY AS a (namespace, name, nonce, owner, micros, place)),
    granted AS (
        INSERT INTO latchwork.lease AS l
            (namespace, name, counter, token, nonce, owner, granted, expires)
        SELECT namespace, name, 1, 1, nonce, owner, clock_timestamp(),
            clock_timestamp() + micros * interval '1 microsecond'
        FROM asked WHERE clock_timestamp() < timestamptz 'epoch' + $6 * interval '1 microsecond'
        ORDER BY place
        ON CONFLICT (namespace, name) DO UPDATE SET
            counter = CASE WHEN l.nonce = excluded.nonce AND l.expires > clock_timestamp()
                THEN l.counter ELSE l.counter + 1 END,
            token = CASE WHEN l.nonce = excluded.nonce AND l.expires > clock_timestamp()
                THEN l.token ELSE l.counter + 1 END,
            granted = CASE WHEN l.nonce = excluded.nonce AND l.expires > clock_timestamp()
                THEN l.granted ELSE clock_timestamp() END,
            nonce = excluded.nonce, owner = excluded.owner,
            expires = clock_timestamp() + (excluded.expires - excluded.granted)
        WHERE (l.nonce IS NULL OR l.nonce = excluded.nonce OR l.expires <= clock_timestamp())
            AND clock_timestamp() < timestamptz 'epoch' + $6 * interval '1 microsecond'
        RETURNING l.namespace, l.name, l.token)
    SELECT a.place, g.token,
        1 / (CASE WHEN (SELECT count(*) FROM granted) = (SELECT count(*) FROM asked)
            THEN 1 ELSE 0 END) AS all_granted,
        (SELECT setting FROM durable) AS setting
    FROM asked a JOIN granted g ON g.namespace = a.namespace COLLATE \"C\"
        AND g.name = a.name COLLATE \"C\"
    UNION ALL SELECT NULL, NULL, NULL, NULL WHERE NOT clock_timestamp() < timestamptz 'epoch' + $6 * interval '1 microsecond'
    ORDER BY 1";

/// $1 namespaces, $2 names, $3 nonces: returns the first request whose key another nonce holds.
pub(super) const FIRST_BUSY: &str = "
    SELECT a.place, (extract(epoch FROM l.expires - clock_timestamp()) * 1000000)::bigint AS micros
    FROM unnest($1::text[], $2::text[], $3::bytea[])
        WITH ORDINALITY AS a (namespace, name, nonce, place)
    JOIN latchwork.lease l ON l.namespace = a.namespace AND l.name = a.name
    WHERE l.nonce <> a.nonce AND l.expires > clock_timestamp()
    ORDER BY a.place LIMIT 1";

/// $1 namespaces, $2 names, $3 nonces, $4 tokens, $5 microseconds, $6 as above:
/// returns the places renewed, and those whose row another session has locked.
///
/// It never waits for a row, because all leases of the request would wait with it [PG8]. The first
/// row is null if the statement is late.
pub(super) const RENEW: &str = "
    WITH asked AS MATERIALIZED (
        SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[], $5::bigint[])
            WITH ORDINALITY AS a (namespace, name, nonce, token, micros, place)),
    free AS MATERIALIZED (
        SELECT a.place FROM latchwork.lease l JOIN asked a
            ON l.namespace = a.namespace AND l.name = a.name
        FOR UPDATE OF l SKIP LOCKED),
    renewed AS (
        UPDATE latchwork.lease l SET expires = clock_timestamp() + a.micros * interval '1 microsecond'
        FROM asked a JOIN free f ON f.place = a.place
        WHERE l.namespace = a.namespace AND l.name = a.name AND l.nonce = a.nonce
            AND l.token = a.token AND l.expires > clock_timestamp()
            AND clock_timestamp() < timestamptz 'epoch' + $6 * interval '1 microsecond'
        RETURNING a.place)
    SELECT place, true AS renewed FROM renewed
    UNION ALL SELECT a.place, false FROM asked a JOIN latchwork.lease l
        ON l.namespace = a.namespace AND l.name = a.name AND l.nonce = a.nonce
            AND l.token = a.token AND l.expires > clock_timestamp()
        WHERE NOT EXISTS (SELECT FROM free f WHERE f.place = a.place)
    UNION ALL SELECT NULL, NULL WHERE NOT clock_timestamp() < timestamptz 'epoch' + $6 * interval '1 microsecond'
    ORDER BY place NULLS FIRST";

/// $1 namespace, $2 name, $3 nonce, $4 the hash for observers.
pub(super) const RELEASE: &str = "SELECT latchwork.release($1, $2, $3, $4)";

/// As [`RELEASE`] for a key without waiters and observers, without a function: $1 to $3 as there.
///
/// It returns no row, and has no effect, if the nonce does not hold the key or if there are some.
/// [`RELEASE`] then decides [PG13]. The setting ends with the transaction, which does not wait for
/// the disk [PG14].
pub(super) const RELEASE_FREE: &str = "
    UPDATE latchwork.lease SET nonce = NULL, freed = clock_timestamp()
    WHERE namespace = $1 AND name = $2 AND nonce = $3 AND queue = '{}'
        AND (watched IS NULL OR watched <= clock_timestamp())
    RETURNING expires > freed, set_config('synchronous_commit', 'off', true)";

/// $1 namespaces, $2 names, $3 nonces, $4 hashes: one element and one row for each release.
pub(super) const RELEASE_MANY: &str = "
    SELECT latchwork.release(a.namespace, a.name, a.nonce, a.hash)
    FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[])
        WITH ORDINALITY AS a (namespace, name, nonce, hash, place)
    ORDER BY a.place";

/// $1 namespace, $2 name, $3 token, $4 the hash for observers.
pub(super) const BREAK: &str = "SELECT latchwork.break_lease($1, $2, $3, $4)";

/// $1 namespace, $2 name, $3 nonce, $4 microseconds: returns whether another nonce holds the key.
pub(super) const WATCH: &str = "SELECT latchwork.watch($1, $2, $3, $4)";

/// $1 namespace, $2 name, $3 token.
pub(super) const RAISE: &str = "
    WITH durable AS MATERIALIZED (
        SELECT CASE WHEN current_setting('synchronous_commit') = 'off'
            THEN set_config('synchronous_commit', 'on', true) END AS setting),
    raised AS (
        INSERT INTO latchwork.lease AS l
            (namespace, name, counter, token, nonce, owner, granted, expires)
        VALUES ($1, $2, $3, 0, NULL, '', clock_timestamp(), clock_timestamp())
        ON CONFLICT (namespace, name) DO UPDATE SET
            counter = greatest(l.counter, excluded.counter)
        RETURNING 1)
    SELECT setting FROM durable, raised";

/// $1 namespace, $2 name.
pub(super) const HOLDER: &str = "
    SELECT name, owner, token,
        (extract(epoch FROM clock_timestamp() - granted) * 1000000)::bigint AS held,
        (extract(epoch FROM expires - clock_timestamp()) * 1000000)::bigint AS remaining
    FROM latchwork.lease
    WHERE namespace = $1 AND name = $2 AND nonce IS NOT NULL AND expires > clock_timestamp()";

/// $1 namespace, $2 prefix.
pub(super) const LIST: &str = "
    SELECT name, owner, token,
        (extract(epoch FROM clock_timestamp() - granted) * 1000000)::bigint AS held,
        (extract(epoch FROM expires - clock_timestamp()) * 1000000)::bigint AS remaining
    FROM latchwork.lease
    WHERE namespace = $1 AND name >= $2 AND starts_with(name, $2)
        AND nonce IS NOT NULL AND expires > clock_timestamp()
    ORDER BY name";

/// $1 namespace, $2 name, $3 nonce: returns whether another nonce holds the key.
pub(super) const IS_BUSY: &str = "
    SELECT EXISTS (SELECT FROM latchwork.lease
        WHERE namespace = $1 AND name = $2 AND nonce <> $3 AND expires > clock_timestamp())";
