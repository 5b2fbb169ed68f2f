//! `lb-agent report`: a host tells how loaded it is.
