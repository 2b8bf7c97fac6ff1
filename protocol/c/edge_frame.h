/* edge_frame.h: the serial protocol between a device and the agent, version 1, for the device.
 *
 * One header, C99, freestanding: no allocation, no library, no global state. docs/protocol.md explains the
 * format and the rules of the conversation, vectors/v1.json holds the bytes this header is tested against,
 * example_device.c is a whole device.
 *
 * Sending: a frame is stuffed and its CRC computed while it is written, so it needs one buffer and no copy.
 * Every call may fail for want of room; the writer remembers that, and only edge_end has to be asked.
 *
 *     uint8_t line[128];
 *     edge_writer w;
 *     edge_begin_reading(&w, line, sizeof line, boot, sequence, edge_time_arrival(), 2);
 *     edge_add_float(&w, "voltage_v", 230.2);
 *     edge_add_int(&w, "energy_wh", 1204110);
 *     size_t length = edge_end(&w);        0: did not fit, or not 2 fields
 *     uart_write(line, length);
 *
 * Receiving: give every byte to edge_receive; it holds one frame in the buffer it was given, skips what is
 * longer, and is in step again at the next zero whatever happened before.
 *
 *     static uint8_t held[256];
 *     edge_receiver r;
 *     edge_receiver_init(&r, held, sizeof held);
 *     ...
 *     if (edge_receive(&r, byte) == EDGE_FRAME && r.kind == EDGE_KIND_ACK) {
 *         edge_ack ack;
 *         if (edge_read_ack(&r, &ack)) forget(ack.boot, ack.sequence);
 *     }
 *
 * A buffer of EDGE_HELD_SMALL bytes is enough for what an agent sends.
 */
#ifndef EDGE_FRAME_H
#define EDGE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EDGE_VERSION 1u
/* Largest frame before stuffing: version, kind, body, CRC. */
#define EDGE_MAX_PLAIN 1024u
/* Largest frame on the line, with the zero before and behind. */
#define EDGE_MAX_LINE 1031u
/* Holds every ack, and every hello of an agent. */
#define EDGE_HELD_SMALL 256u

#define EDGE_KIND_HELLO 1u
#define EDGE_KIND_READING 2u
#define EDGE_KIND_ACK 3u
#define EDGE_KIND_STATUS 4u

/* A double must be an IEEE 754 binary64; on AVR compile with -mdouble=64. */
typedef char edge_double_has_64_bits[sizeof(double) == 8 ? 1 : -1];

/* CRC-32 (IEEE 802.3, reflected), four bits at a time: 64 bytes of table. Start with 0xFFFFFFFF, invert at
 * the end. */
static inline uint32_t edge_crc_byte(uint32_t crc, uint8_t byte)
{
    static const uint32_t table[16] = {
        0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u,
        0x4DB26158u, 0x5005713Cu, 0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu,
        0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
    };
    crc = (crc >> 4) ^ table[(crc ^ byte) & 15u];
    return (crc >> 4) ^ table[(crc ^ (uint32_t)(byte >> 4)) & 15u];
}

/* ---- sending ---- */

typedef struct {
    uint8_t *line;
    size_t capacity;
    size_t length;      /* bytes written to line */
    size_t plain;       /* bytes of the frame before stuffing */
    size_t code_at;     /* where the length of the block being written goes; 0: no block is open */
    uint8_t code;       /* that length so far */
    uint8_t fields;     /* fields still to be added, in a reading */
    bool failed;
    uint32_t crc;
} edge_writer;

typedef enum { EDGE_TIME_ARRIVAL = 0, EDGE_TIME_UNIX = 1, EDGE_TIME_AGE = 2 } edge_time_kind;

typedef struct {
    edge_time_kind kind;
    uint64_t value;
} edge_time;

/* The device has no clock and sends at once: the agent's arrival time counts. */
static inline edge_time edge_time_arrival(void)
{
    edge_time time = { EDGE_TIME_ARRIVAL, 0 };
    return time;
}

/* The device has a clock: microseconds since 1970-01-01 UTC. */
static inline edge_time edge_time_unix(uint64_t us)
{
    edge_time time = { EDGE_TIME_UNIX, us };
    return time;
}

/* No clock, and the reading waited so many milliseconds; renew it with every transmission. */
static inline edge_time edge_time_age(uint32_t ms)
{
    edge_time time = { EDGE_TIME_AGE, ms };
    return time;
}

static inline void edge_raw(edge_writer *w, uint8_t byte)
{
    if (w->length < w->capacity)
        w->line[w->length++] = byte;
    else
        w->failed = true;
}

static inline void edge_stuff(edge_writer *w, uint8_t byte)
{
    if (w->failed)
        return;
    if (++w->plain > EDGE_MAX_PLAIN) {
        w->failed = true;
        return;
    }
    if (w->code_at == 0) {
        w->code_at = w->length;
        w->code = 1;
        edge_raw(w, 0);
    }
    if (byte != 0) {
        edge_raw(w, byte);
        w->code++;
    }
    if (w->failed)
        return;
    if (byte == 0 || w->code == 0xFF) {
        w->line[w->code_at] = w->code;
        w->code_at = 0;
        if (byte == 0) {
            /* A zero is told by the end of its block, so another block always follows. */
            w->code_at = w->length;
            w->code = 1;
            edge_raw(w, 0);
        }
    }
}

static inline void edge_put(edge_writer *w, uint8_t byte)
{
    w->crc = edge_crc_byte(w->crc, byte);
    edge_stuff(w, byte);
}

static inline void edge_put_varint(edge_writer *w, uint64_t number)
{
    while (number > 0x7F) {
        edge_put(w, (uint8_t)(0x80u | (number & 0x7Fu)));
        number >>= 7;
    }
    edge_put(w, (uint8_t)number);
}

static inline void edge_put_text(edge_writer *w, const char *text)
{
    size_t length = 0;
    while (text[length] != 0)
        length++;
    edge_put_varint(w, length);
    for (size_t at = 0; at < length; at++)
        edge_put(w, (uint8_t)text[at]);
}

static inline void edge_begin(edge_writer *w, uint8_t *line, size_t capacity, uint8_t kind)
{
    w->line = line;
    w->capacity = capacity;
    w->length = 0;
    w->plain = 0;
    w->code_at = 0;
    w->code = 0;
    w->fields = 0;
    w->failed = false;
    w->crc = 0xFFFFFFFFu;
    edge_raw(w, 0);
    edge_put(w, EDGE_VERSION);
    edge_put(w, kind);
}

/* Completes the frame; returns its length on the line, 0 if it did not fit or a field is missing. */
static inline size_t edge_end(edge_writer *w)
{
    const uint32_t crc = ~w->crc;
    for (unsigned shift = 0; shift < 32; shift += 8)
        edge_stuff(w, (uint8_t)(crc >> shift));
    if (!w->failed && w->code_at != 0)
        w->line[w->code_at] = w->code;
    edge_raw(w, 0);
    return w->failed || w->fields != 0 ? 0 : w->length;
}

/* Who is there. unix_us: 0 where the device has no clock. reply: please answer with your own hello. */
static inline size_t edge_encode_hello(uint8_t *line, size_t capacity, const char *device,
                                       const char *model, const char *firmware, uint32_t boot,
                                       uint64_t unix_us, bool reply)
{
    edge_writer w;
    edge_begin(&w, line, capacity, EDGE_KIND_HELLO);
    edge_put_text(&w, device);
    edge_put_text(&w, model);
    edge_put_text(&w, firmware);
    edge_put_varint(&w, boot);
    edge_put(&w, unix_us != 0);
    if (unix_us != 0)
        edge_put_varint(&w, unix_us);
    edge_put(&w, reply);
    return edge_end(&w);
}

/* How the device is. text may be empty. */
static inline size_t edge_encode_status(uint8_t *line, size_t capacity, uint32_t boot,
                                        uint64_t uptime_ms, uint32_t dropped, const char *text)
{
    edge_writer w;
    edge_begin(&w, line, capacity, EDGE_KIND_STATUS);
    edge_put_varint(&w, boot);
    edge_put_varint(&w, uptime_ms);
    edge_put_varint(&w, dropped);
    edge_put_text(&w, text);
    return edge_end(&w);
}

/* Begins a reading; exactly so many fields must be added before edge_end. */
static inline void edge_begin_reading(edge_writer *w, uint8_t *line, size_t capacity,
                                      uint32_t boot, uint32_t sequence, edge_time time,
                                      uint8_t fields)
{
    edge_begin(w, line, capacity, EDGE_KIND_READING);
    edge_put_varint(w, boot);
    edge_put_varint(w, sequence);
    edge_put(w, (uint8_t)time.kind);
    if (time.kind != EDGE_TIME_ARRIVAL)
        edge_put_varint(w, time.value);
    edge_put_varint(w, fields);
    w->fields = fields;
}

static inline void edge_field(edge_writer *w, const char *name, uint8_t type)
{
    if (w->fields == 0)
        w->failed = true;
    else
        w->fields--;
    edge_put_text(w, name);
    edge_put(w, type);
}

/* A physical quantity; it must be finite, or the agent rejects the reading. */
static inline void edge_add_float(edge_writer *w, const char *name, double value)
{
    union {
        double number;
        uint64_t bits;
    } both;
    both.number = value;
    edge_field(w, name, 0);
    for (unsigned shift = 0; shift < 64; shift += 8)
        edge_put(w, (uint8_t)(both.bits >> shift));
}

/* A counter that needs all its digits. */
static inline void edge_add_int(edge_writer *w, const char *name, int64_t value)
{
    const uint64_t bits = (uint64_t)value;
    edge_field(w, name, 1);
    edge_put_varint(w, value < 0 ? ~(bits << 1) : bits << 1);
}

static inline void edge_add_bool(edge_writer *w, const char *name, bool value)
{
    edge_field(w, name, 2);
    edge_put(w, value);
}

/* UTF-8, at most 256 bytes. */
static inline void edge_add_text(edge_writer *w, const char *name, const char *value)
{
    edge_field(w, name, 3);
    edge_put_text(w, value);
}

/* ---- receiving ---- */

typedef enum {
    EDGE_NOTHING = 0, /* no frame ends here */
    EDGE_FRAME,       /* an intact frame: kind, body and body_length are set until the next byte */
    EDGE_TOO_LONG,    /* longer than EDGE_MAX_PLAIN or than the buffer */
    EDGE_BAD_COBS,    /* bytes were lost or added */
    EDGE_TOO_SHORT,   /* no room for version, kind and CRC */
    EDGE_BAD_CRC,     /* bytes were damaged */
    EDGE_NEWER        /* intact, but of a version this header does not know */
} edge_event;

typedef struct {
    uint8_t *held;
    size_t capacity;
    size_t length;    /* bytes unstuffed so far; beyond capacity when the frame is too long */
    uint8_t block;    /* code of the block being read, 0 before the first */
    uint8_t left;     /* bytes of it still to come */
    uint8_t kind;
    const uint8_t *body;
    size_t body_length;
} edge_receiver;

static inline void edge_receiver_reset(edge_receiver *r)
{
    r->length = 0;
    r->block = 0;
    r->left = 0;
}

static inline void edge_receiver_init(edge_receiver *r, uint8_t *held, size_t capacity)
{
    r->held = held;
    r->capacity = capacity < EDGE_MAX_PLAIN ? capacity : EDGE_MAX_PLAIN;
    r->kind = 0;
    r->body = held;
    r->body_length = 0;
    edge_receiver_reset(r);
}

static inline void edge_hold(edge_receiver *r, uint8_t byte)
{
    if (r->length < r->capacity)
        r->held[r->length++] = byte;
    else
        r->length = r->capacity + 1; /* too long, and stays so until the next zero */
}

static inline edge_event edge_judge(edge_receiver *r)
{
    uint32_t crc = 0xFFFFFFFFu;
    uint32_t told = 0;
    if (r->length > r->capacity)
        return EDGE_TOO_LONG;
    if (r->left != 0)
        return EDGE_BAD_COBS;
    if (r->length < 6)
        return EDGE_TOO_SHORT;
    for (size_t at = 0; at < r->length - 4; at++)
        crc = edge_crc_byte(crc, r->held[at]);
    for (size_t at = 1; at <= 4; at++)
        told = told << 8 | r->held[r->length - at];
    if (told != (uint32_t)~crc)
        return EDGE_BAD_CRC;
    if (r->held[0] != EDGE_VERSION)
        return EDGE_NEWER;
    r->kind = r->held[1];
    r->body = r->held + 2;
    r->body_length = r->length - 6;
    return EDGE_FRAME;
}

/* Takes one byte from the line. Kinds this header does not know are frames as well: pass them by. */
static inline edge_event edge_receive(edge_receiver *r, uint8_t byte)
{
    edge_event event = EDGE_NOTHING;
    if (byte == 0) {
        if (r->block != 0)
            event = edge_judge(r);
        edge_receiver_reset(r);
    } else if (r->left != 0) {
        r->left--;
        edge_hold(r, byte);
    } else {
        if (r->block != 0 && r->block != 0xFF)
            edge_hold(r, 0);
        r->block = byte;
        r->left = (uint8_t)(byte - 1);
    }
    return event;
}

typedef struct {
    const uint8_t *at;
    size_t left;
    bool failed;
} edge_reader;

static inline uint8_t edge_take(edge_reader *b)
{
    if (b->left == 0) {
        b->failed = true;
        return 0;
    }
    b->left--;
    return *b->at++;
}

/* At most bits bits; longer or larger numbers fail. */
static inline uint64_t edge_take_varint(edge_reader *b, unsigned bits)
{
    uint64_t number = 0;
    for (unsigned shift = 0; shift < bits; shift += 7) {
        const uint8_t byte = edge_take(b);
        const uint64_t part = byte & 0x7Fu;
        if (bits - shift < 7 && part >> (bits - shift) != 0)
            break;
        number |= part << shift;
        if ((byte & 0x80u) == 0)
            return number;
    }
    b->failed = true;
    return 0;
}

/* 0 or 1; anything else fails. */
static inline bool edge_take_bool(edge_reader *b)
{
    const uint8_t byte = edge_take(b);
    if (byte > 1)
        b->failed = true;
    return byte == 1;
}

typedef struct {
    const char *at; /* not ended by a zero, not checked to be UTF-8; lies in the receiver's buffer */
    size_t length;
} edge_text;

static inline edge_text edge_take_text(edge_reader *b)
{
    const uint64_t length = edge_take_varint(b, 32);
    edge_text text = { (const char *)b->at, 0 };
    if (length > b->left) {
        b->failed = true;
    } else {
        text.length = (size_t)length;
        b->at += text.length;
        b->left -= text.length;
    }
    return text;
}

typedef struct {
    edge_text device; /* the gateway's id when an agent speaks */
    edge_text model;
    edge_text firmware;
    uint32_t boot;
    bool has_time;
    uint64_t unix_us;
    bool reply; /* answer with a hello of your own */
} edge_hello;

/* Reads the body of the hello just received; false: malformed, ignore it. */
static inline bool edge_read_hello(const edge_receiver *r, edge_hello *hello)
{
    edge_reader b = { r->body, r->body_length, r->kind != EDGE_KIND_HELLO };
    hello->device = edge_take_text(&b);
    hello->model = edge_take_text(&b);
    hello->firmware = edge_take_text(&b);
    hello->boot = (uint32_t)edge_take_varint(&b, 32);
    hello->has_time = edge_take_bool(&b);
    hello->unix_us = hello->has_time ? edge_take_varint(&b, 64) : 0;
    hello->reply = edge_take_bool(&b);
    return !b.failed && b.left == 0;
}

typedef struct {
    uint32_t boot;
    uint32_t sequence;
    bool rejected; /* never acceptable as it is; forget it all the same */
} edge_ack;

/* Reads the body of the ack just received; false: malformed, ignore it. */
static inline bool edge_read_ack(const edge_receiver *r, edge_ack *ack)
{
    edge_reader b = { r->body, r->body_length, r->kind != EDGE_KIND_ACK };
    ack->boot = (uint32_t)edge_take_varint(&b, 32);
    ack->sequence = (uint32_t)edge_take_varint(&b, 32);
    ack->rejected = edge_take_bool(&b);
    return !b.failed && b.left == 0;
}

#endif
