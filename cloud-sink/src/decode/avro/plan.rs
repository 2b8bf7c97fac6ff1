//! A schema laid out flat: every type has a number, and a name that is used is the number it stands for.

use std::collections::HashMap;

use apache_avro::{
    Schema,
    schema::{InnerDecimalSchema, Name, NamespaceRef, UuidSchema},
};

/// Types of one schema, with those it refers to.
const MAX_NODES: usize = 10_000;
/// Text of one schema, or of one it refers to, in bytes.
const MAX_TEXT: usize = 1 << 20;

/// One type.
#[derive(Debug)]
pub(super) enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    String,
    Bytes,
    Fixed(usize),
    /// In as many bytes, or with a length before them.
    Decimal {
        size: Option<usize>,
        scale: usize,
    },
    /// Days since 1970.
    Date,
    /// Since 1970, so many a second.
    Timestamp(i64),
    /// The same, of a clock whose zone is not known.
    LocalTimestamp(i64),
    Enum(Vec<String>),
    Union(Vec<usize>),
    Record(Vec<(String, usize)>),
    Map(usize),
    Array,
}

/// A schema to read by.
#[derive(Debug)]
pub struct Plan {
    nodes: Vec<Node>,
    pub(super) root: usize,
    /// Full name of the root, where it has one.
    pub name: Option<String>,
}

impl Plan {
    /// Reads a schema, and those it refers to.
    ///
    /// # Errors
    /// Why it is none, in one line.
    pub fn new(text: &str, references: &[String]) -> Result<Self, String> {
        let texts = references.iter().map(String::len).chain([text.len()]);
        if let Some(bytes) = texts.filter(|bytes| *bytes > MAX_TEXT).max() {
            return Err(format!("a schema of {bytes} bytes"));
        }
        let (schema, referred) = Schema::parse_str_with_list(text, references)
            .map_err(|error| format!("no avro schema: {error}"))?;
        let mut laying = Laying::default();
        for schema in &referred {
            laying.lay(schema, None)?;
        }
        let root = laying.lay(&schema, None)?;
        let nodes = laying.nodes.into_iter();
        let nodes: Option<Vec<Node>> = nodes.collect();
        Ok(Self {
            nodes: nodes.ok_or("a schema that refers to what it does not define")?,
            root,
            name: schema.name().map(|name| name.fullname(None)),
        })
    }

    /// Numbers come only from this plan.
    pub(super) fn node(&self, number: usize) -> &Node {
        self.nodes.get(number).unwrap_or(&Node::Null)
    }
}

#[derive(Default)]
struct Laying {
    /// `None` while a type's own members are laid.
    nodes: Vec<Option<Node>>,
    names: HashMap<Name, usize>,
}

impl Laying {
    fn lay(&mut self, schema: &Schema, namespace: NamespaceRef<'_>) -> Result<usize, String> {
        if self.nodes.len() >= MAX_NODES {
            return Err(format!("a schema of more than {MAX_NODES} types"));
        }
        if let Schema::Ref { name } = schema {
            let name = name.fully_qualified_name(namespace);
            let known = self.names.get(&*name).copied();
            return known.ok_or_else(|| format!("no type {name}"));
        }
        let number = self.nodes.len();
        self.nodes.push(None);
        let name = schema
            .name()
            .map(|name| name.fully_qualified_name(namespace));
        let inner = name.as_ref().map_or(namespace, |name| name.namespace());
        if let Some(name) = &name {
            self.names.insert(name.clone().into_owned(), number);
        }
        let node = self.node(schema, inner)?;
        self.nodes[number] = Some(node);
        Ok(number)
    }

    fn node(&mut self, schema: &Schema, namespace: NamespaceRef<'_>) -> Result<Node, String> {
        Ok(match schema {
            Schema::Null => Node::Null,
            Schema::Boolean => Node::Boolean,
            // The time of a day is what it counts.
            Schema::Int | Schema::TimeMillis => Node::Int,
            Schema::Long | Schema::TimeMicros => Node::Long,
            Schema::Float => Node::Float,
            Schema::Double => Node::Double,
            Schema::String | Schema::Uuid(UuidSchema::String) => Node::String,
            Schema::Bytes | Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes) => Node::Bytes,
            Schema::Fixed(fixed)
            | Schema::Duration(fixed)
            | Schema::Uuid(UuidSchema::Fixed(fixed)) => Node::Fixed(fixed.size),
            Schema::Decimal(decimal) => Node::Decimal {
                size: match &decimal.inner {
                    InnerDecimalSchema::Bytes => None,
                    InnerDecimalSchema::Fixed(fixed) => Some(fixed.size),
                },
                scale: decimal.scale,
            },
            Schema::Date => Node::Date,
            Schema::TimestampMillis => Node::Timestamp(1000),
            Schema::TimestampMicros => Node::Timestamp(1_000_000),
            Schema::TimestampNanos => Node::Timestamp(1_000_000_000),
            Schema::LocalTimestampMillis => Node::LocalTimestamp(1000),
            Schema::LocalTimestampMicros => Node::LocalTimestamp(1_000_000),
            Schema::LocalTimestampNanos => Node::LocalTimestamp(1_000_000_000),
            Schema::Enum(one) => Node::Enum(one.symbols.clone()),
            Schema::Union(union) => {
                let branches = union.variants().iter();
                Node::Union(
                    branches
                        .map(|one| self.lay(one, namespace))
                        .collect::<Result<_, _>>()?,
                )
            }
            Schema::Record(record) => {
                let fields = record.fields.iter();
                let laid = fields
                    .map(|field| Ok((field.name.clone(), self.lay(&field.schema, namespace)?)));
                Node::Record(laid.collect::<Result<_, String>>()?)
            }
            Schema::Map(map) => Node::Map(self.lay(&map.types, namespace)?),
            Schema::Array(array) => {
                // Its items may define a name that is used elsewhere.
                self.lay(&array.items, namespace)?;
                Node::Array
            }
            // Laid by its name.
            Schema::Ref { .. } => Node::Null,
        })
    }
}
