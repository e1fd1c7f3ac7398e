//! The kinds of personal data that `privacy` finds, with their words and the labels of their placeholders.

use crate::config::{error::quoted, scalars::Word};

/// Builds the enum and its tables from one list.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $word:literal $label:literal,)+) => {
        /// A kind of personal data.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum PersonalKind {
            $($(#[$doc])* $kind,)+
        }

        impl PersonalKind {
            /// Every kind, in the order of the list.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            /// Its word in the file and in metrics.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)+
                }
            }

            /// Its label in a placeholder: capitals, digits and `_`.
            pub fn label(self) -> &'static str {
                match self {
                    $(Self::$kind => $label,)+
                }
            }
        }

        /// The words of a kind, groups included, as the schema lists them.
        pub(in crate::config) const KIND_WORDS: &[&str] = &[ALL, IDS, $($word),+];
    };
}

kinds! {
    /// An e-mail address.
    Email "email" "EMAIL",
    /// A telephone number.
    Phone "phone" "PHONE",
    /// A payment card.
    Card "card" "CARD",
    /// A bank account (ISO 13616).
    Iban "iban" "IBAN",
    /// A public IP address.
    Ip "ip" "IP",
    /// A name in the caller's own record.
    Name "name" "NAME",
    /// A pattern of the operator.
    Pattern "pattern" "PATTERN",
    /// United States: social security number.
    UsSsn "us_ssn" "US_SSN",
    /// Canada: social insurance number.
    CaSin "ca_sin" "CA_SIN",
    /// United Kingdom: national insurance number.
    UkNino "uk_nino" "UK_NINO",
    /// United Kingdom: number of the health service.
    UkNhs "uk_nhs" "UK_NHS",
    /// Germany: tax identification number.
    DeSteuerId "de_steuer_id" "DE_TAX_ID",
    /// France: number of the social security (INSEE).
    FrInsee "fr_insee" "FR_INSEE",
    /// Spain: DNI of citizens and NIE of foreigners.
    EsDni "es_dni" "ES_DNI",
    /// Italy: codice fiscale of a person.
    ItCodiceFiscale "it_codice_fiscale" "IT_CF",
    /// Netherlands: burgerservicenummer.
    NlBsn "nl_bsn" "NL_BSN",
    /// Poland: PESEL.
    PlPesel "pl_pesel" "PL_PESEL",
    /// Portugal: NIF.
    PtNif "pt_nif" "PT_NIF",
    /// Belgium: number of the national register.
    BeRrn "be_rrn" "BE_RRN",
    /// Switzerland: AHV number.
    ChAhv "ch_ahv" "CH_AHV",
    /// Sweden: personnummer.
    SePersonnummer "se_personnummer" "SE_PNR",
    /// Finland: henkilötunnus.
    FiHetu "fi_hetu" "FI_HETU",
    /// Norway: fødselsnummer.
    NoFnr "no_fnr" "NO_FNR",
    /// Denmark: CPR number.
    DkCpr "dk_cpr" "DK_CPR",
    /// Turkey: kimlik number.
    TrTckn "tr_tckn" "TR_TCKN",
    /// India: Aadhaar.
    InAadhaar "in_aadhaar" "IN_AADHAAR",
    /// India: PAN of a person.
    InPan "in_pan" "IN_PAN",
    /// Brazil: CPF.
    BrCpf "br_cpf" "BR_CPF",
    /// Mexico: CURP.
    MxCurp "mx_curp" "MX_CURP",
    /// China: number of the resident identity card.
    CnId "cn_id" "CN_ID",
    /// South Korea: resident registration number.
    KrRrn "kr_rrn" "KR_RRN",
    /// Singapore: NRIC and FIN.
    SgNric "sg_nric" "SG_NRIC",
    /// South Africa: identity number.
    ZaId "za_id" "ZA_ID",
}

/// The group of everything that is found without terms of its own.
pub(in crate::config) const ALL: &str = "all";
/// The group of the national numbers.
pub(in crate::config) const IDS: &str = "ids";

impl PersonalKind {
    /// Whether it is a number that a state gives to a person.
    pub fn is_national(self) -> bool {
        self > Self::Pattern
    }
}

/// One kind, or a group of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum KindWord {
    All,
    Ids,
    One(PersonalKind),
}

impl KindWord {
    /// The kinds that it stands for. Names and patterns have keys of their own: `all` does not turn them on.
    pub(in crate::config) fn kinds(self) -> Vec<PersonalKind> {
        let own = [PersonalKind::Name, PersonalKind::Pattern];
        match self {
            Self::One(kind) => vec![kind],
            Self::All => PersonalKind::ALL.iter().copied().filter(|kind| !own.contains(kind)).collect(),
            Self::Ids => PersonalKind::ALL.iter().copied().filter(|kind| kind.is_national()).collect(),
        }
    }
}

impl Word for KindWord {
    fn word(text: &str) -> Result<Self, String> {
        match text {
            ALL => Ok(Self::All),
            IDS => Ok(Self::Ids),
            _ => match PersonalKind::ALL.iter().find(|kind| kind.as_str() == text) {
                Some(kind) => Ok(Self::One(*kind)),
                None => {
                    let near = KIND_WORDS.iter().min_by_key(|word| strsim::damerau_levenshtein(word, text)).copied().unwrap_or(ALL);
                    Err(format!(
                        "{} is no kind of personal data; did you mean `{near}`? The kinds: {}",
                        quoted(text),
                        KIND_WORDS.join(", ")
                    ))
                }
            },
        }
    }
}
