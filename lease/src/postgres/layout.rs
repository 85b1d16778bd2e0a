//! The layout of the table, its functions, and their creation.
//!
//! The statements below are also shown to owners of databases, in one line. So they contain no
//! comments; the comments are here.
//!
//! `counter` is the greatest token that a grant or a floor has used, and `token` is that of the
//! present holder. Without a holder, `nonce` is null and `freed` is the time of the release. Names
//! are compared by their bytes.
//!
//! `queue` has one place for each waiter, in the order of their first requests [PG9]. A place has
//! 32 bytes: the nonce (16), the ear by which the waiter is notified, or zeros (8), and the end of
//! the place in microseconds since 1970 (8). A release notifies other observers until `watched`.

/// The number of the layout. A release with another layout has statements that change it.
pub(super) const LAYOUT: i32 = 2;

/// Serialises the creation of the layout between clients, until its transaction ends.
///
/// The limit of the session is for rows, and the creation by another client may take longer.
pub(super) const LOCK_CREATION: &str = "SELECT set_config('lock_timeout', '30s', true); \
     SELECT pg_advisory_xact_lock(7809078230142342515)";

pub(super) const CREATE_SCHEMA: &str = "CREATE SCHEMA IF NOT EXISTS latchwork";

/// Creates the tables. The functions must follow.
pub(super) const CREATE_TABLES: &str = "
    CREATE TABLE IF NOT EXISTS latchwork.lease (
        namespace text COLLATE \"C\" NOT NULL,
        name text COLLATE \"C\" NOT NULL,
        counter bigint NOT NULL,
        token bigint NOT NULL,
        nonce bytea,
        owner text NOT NULL,
        granted timestamptz NOT NULL,
        expires timestamptz NOT NULL,
        queue bytea[] NOT NULL DEFAULT '{}',
        freed timestamptz,
        watched timestamptz,
        PRIMARY KEY (namespace, name)
    ) WITH (fillfactor = 50);
    CREATE TABLE IF NOT EXISTS latchwork.layout (version int PRIMARY KEY);
    INSERT INTO latchwork.layout SELECT 2 WHERE NOT EXISTS (SELECT FROM latchwork.layout);";

/// Changes the table of layout 1. The functions must follow.
pub(super) const FROM_LAYOUT_1: &str = "
    ALTER TABLE latchwork.lease ADD COLUMN queue bytea[] NOT NULL DEFAULT '{}',
        ADD COLUMN freed timestamptz, ADD COLUMN watched timestamptz;
    UPDATE latchwork.layout SET version = 2;";

/// Creates the functions.
///
/// Each statement of a function reads all earlier commits. A function acquires the lock of the row
/// and reads the queue of the latest version, so no registration is missed [PG9].
///
/// - `acquire` returns the token, the microseconds until the next attempt can succeed, and the
///   clock. It returns null if it is late [PG7]. The first statement serves a key without waiters.
///   A token must survive a crash, so the commit is made durable even where the default is not. A
///   place in the queue need not survive one.
/// - `release` returns whether the nonce held the key. A nonce that did not leaves the queue, and
///   the next waiter is notified if the key is free [PG10].
/// - `wake` notifies the first waiter. The commit of its grant makes the release durable, so the
///   release itself does not wait for the disk.
/// - `watch` returns whether another nonce holds the key, and makes a release notify observers.
pub(super) const CREATE_FUNCTIONS: &str = "
    CREATE OR REPLACE FUNCTION latchwork.acquire(p_namespace text, p_name text, p_nonce bytea,
        p_owner text, p_micros bigint, p_late bigint, p_ear bytea)
    RETURNS bigint[] LANGUAGE plpgsql AS $$
    DECLARE
        l latchwork.lease;
        t timestamptz := clock_timestamp();
        late timestamptz := timestamptz 'epoch' + p_late * interval '1 microsecond';
        length interval := p_micros * interval '1 microsecond';
        clock bigint := extract(epoch FROM t) * 1000000;
        place bytea;
        before bytea[] := '{}';
        after bytea[] := '{}';
        is_waiting boolean := false;
        turn timestamptz;
    BEGIN
        IF t >= late THEN RETURN NULL; END IF;
        IF current_setting('synchronous_commit') = 'off' THEN
            PERFORM set_config('synchronous_commit', 'on', true);
        END IF;
        UPDATE latchwork.lease SET counter = counter + 1, token = counter + 1, nonce = p_nonce,
            owner = p_owner, granted = t, expires = t + length
        WHERE namespace = p_namespace AND name = p_name AND (nonce IS NULL OR expires <= t)
            AND queue = '{}' AND clock_timestamp() < late
        RETURNING token INTO l.token;
        IF FOUND THEN RETURN ARRAY[l.token, NULL, clock]; END IF;
        LOOP
            SELECT * INTO l FROM latchwork.lease
            WHERE namespace = p_namespace AND name = p_name FOR UPDATE;
            EXIT WHEN FOUND;
            t := clock_timestamp();
            IF t >= late THEN RETURN NULL; END IF;
            INSERT INTO latchwork.lease
                (namespace, name, counter, token, nonce, owner, granted, expires)
            VALUES (p_namespace, p_name, 1, 1, p_nonce, p_owner, t, t + length)
            ON CONFLICT DO NOTHING;
            IF FOUND THEN RETURN ARRAY[1, NULL, clock]; END IF;
        END LOOP;
        t := clock_timestamp();
        clock := extract(epoch FROM t) * 1000000;
        IF t >= late THEN RETURN NULL; END IF;
        IF l.nonce = p_nonce AND l.expires > t THEN
            UPDATE latchwork.lease SET owner = p_owner, expires = t + length
            WHERE namespace = p_namespace AND name = p_name;
            RETURN ARRAY[l.token, NULL, clock];
        END IF;
        FOREACH place IN ARRAY l.queue LOOP
            IF substr(place, 1, 16) = p_nonce THEN
                is_waiting := true;
            ELSIF substr(place, 25) > int8send(clock) THEN
                IF is_waiting THEN
                    after := array_append(after, place);
                ELSE
                    before := array_append(before, place);
                END IF;
            END IF;
        END LOOP;
        IF l.nonce IS NOT NULL AND l.expires > t THEN
            turn := l.expires;
        ELSE
            turn := CASE WHEN l.nonce IS NULL THEN coalesce(l.freed, '-infinity') ELSE l.expires END
                + cardinality(before) * interval '300 milliseconds';
            IF cardinality(before) = 0 OR turn <= t THEN
                UPDATE latchwork.lease SET counter = counter + 1, token = counter + 1,
                    nonce = p_nonce, owner = p_owner, granted = t, expires = t + length,
                    queue = before[2:] || after
                WHERE namespace = p_namespace AND name = p_name RETURNING token INTO l.token;
                RETURN ARRAY[l.token, NULL, clock];
            END IF;
        END IF;
        IF cardinality(before) + cardinality(after) < 1000 THEN
            PERFORM set_config('synchronous_commit', 'off', true);
            place := p_nonce || p_ear || int8send(clock + 3000000);
            UPDATE latchwork.lease SET queue = before || ARRAY[place] || after
            WHERE namespace = p_namespace AND name = p_name;
        END IF;
        RETURN ARRAY[NULL, (extract(epoch FROM turn - t) * 1000000)::bigint, clock];
    END $$;

    CREATE OR REPLACE FUNCTION latchwork.wake(l latchwork.lease, p_hash text)
    RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        clock bigint := extract(epoch FROM clock_timestamp()) * 1000000;
        place bytea;
    BEGIN
        FOREACH place IN ARRAY l.queue LOOP
            IF substr(place, 25) > int8send(clock) THEN
                PERFORM set_config('synchronous_commit', 'off', true);
                IF substr(place, 17, 8) <> int8send(0) THEN
                    PERFORM pg_notify('latchwork_lease_' || encode(substr(place, 17, 8), 'hex'),
                        encode(substr(place, 1, 16), 'hex'));
                END IF;
                EXIT;
            END IF;
        END LOOP;
        IF l.watched > clock_timestamp() THEN
            PERFORM pg_notify('latchwork_lease', p_hash);
        END IF;
    END $$;

    CREATE OR REPLACE FUNCTION latchwork.release(p_namespace text, p_name text, p_nonce bytea,
        p_hash text)
    RETURNS boolean LANGUAGE plpgsql AS $$
    DECLARE
        l latchwork.lease;
    BEGIN
        UPDATE latchwork.lease SET nonce = NULL, freed = clock_timestamp()
        WHERE namespace = p_namespace AND name = p_name AND nonce = p_nonce RETURNING * INTO l;
        IF FOUND THEN
            IF l.queue <> '{}' OR l.watched IS NOT NULL THEN
                PERFORM latchwork.wake(l, p_hash);
            END IF;
            RETURN l.expires > l.freed;
        END IF;
        SELECT * INTO l FROM latchwork.lease
        WHERE namespace = p_namespace AND name = p_name AND EXISTS (
            SELECT FROM unnest(queue) AS q (place) WHERE substr(q.place, 1, 16) = p_nonce)
        FOR UPDATE;
        IF FOUND THEN
            PERFORM set_config('synchronous_commit', 'off', true);
            UPDATE latchwork.lease SET queue = ARRAY(
                SELECT q.place FROM unnest(l.queue) WITH ORDINALITY AS q (place, number)
                WHERE substr(q.place, 1, 16) <> p_nonce ORDER BY q.number)
            WHERE namespace = p_namespace AND name = p_name RETURNING * INTO l;
            IF l.nonce IS NULL OR l.expires <= clock_timestamp() THEN
                PERFORM latchwork.wake(l, p_hash);
            END IF;
        END IF;
        RETURN false;
    END $$;

    CREATE OR REPLACE FUNCTION latchwork.break_lease(p_namespace text, p_name text,
        p_token bigint, p_hash text)
    RETURNS boolean LANGUAGE plpgsql AS $$
    DECLARE
        l latchwork.lease;
    BEGIN
        UPDATE latchwork.lease SET nonce = NULL, freed = clock_timestamp()
        WHERE namespace = p_namespace AND name = p_name AND token = p_token
            AND nonce IS NOT NULL AND expires > clock_timestamp() RETURNING * INTO l;
        IF FOUND THEN
            PERFORM latchwork.wake(l, p_hash);
            RETURN true;
        END IF;
        RETURN false;
    END $$;

    CREATE OR REPLACE FUNCTION latchwork.watch(p_namespace text, p_name text, p_nonce bytea,
        p_micros bigint)
    RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM set_config('synchronous_commit', 'off', true);
        UPDATE latchwork.lease
        SET watched = greatest(watched, clock_timestamp() + p_micros * interval '1 microsecond')
        WHERE namespace = p_namespace AND name = p_name AND nonce IS NOT NULL AND nonce <> p_nonce
            AND expires > clock_timestamp();
        RETURN FOUND;
    END $$";

/// Returns a script as one line.
pub(super) fn one_line(script: &str) -> String {
    script.split_whitespace().collect::<Vec<_>>().join(" ")
}
